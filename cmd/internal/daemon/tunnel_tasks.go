package daemon

import (
	"context"
	"errors"

	"sixin4/cmd/internal/control"
)

// openControl opens the control socket. drain is a broker's, nil otherwise.
func (t *tunnel) openControl(status func() control.Tunnel, drain func(on bool)) (err error) {
	t.server, err = control.Listen(control.Config{
		Path:   t.socket,
		Status: status,
		Drain:  drain,
		Logger: t.env.Logger,
	})
	if err != nil {
		return socketError(err)
	}
	t.undo.Push(t.server.Close)
	return nil
}

// tasks are what every tunnel runs.
func (t *tunnel) tasks() []Task {
	tasks := append([]Task{
		newTask("engine", t.runEngine),
		newTask("control", t.serveControl),
		newTask("watch", t.watch),
	}, t.metricsTask()...)
	if !t.udp.only { // of which the kernel tells the socket
		tasks = append(tasks, newTask("icmp", t.listenICMP), newTask("refusal", t.watchRefusal))
	}
	if t.hopper != nil {
		tasks = append(tasks, newTask("hops", t.hopper.run))
	}
	if t.short != nil && (t.udp.may || t.set.hub) {
		tasks = append(tasks, newTask("trials", t.runTrials))
	}
	if t.short != nil && t.set.hub {
		tasks = append(tasks, newTask("ways", t.runWays))
	}
	return tasks
}

func (t *tunnel) serveControl(ctx context.Context, ready func()) error {
	ready() // the socket listens already
	return t.server.Run(ctx)
}

// runEngine waits for the engine and runs it.
func (t *tunnel) runEngine(ctx context.Context, ready func()) error {
	ready() // packets wait in the kernel until its loops begin
	select {
	case <-t.begun:
	case <-ctx.Done():
		return nil
	}
	err := t.engine.Run(ctx)
	if err == nil && ctx.Err() == nil {
		err = errors.New("ended by itself")
	}
	return err
}
