package account

import (
	"context"
	"sync"
	"time"
)

// pauses wait precisely, and for one thing only: the clock. The timers of the runtime end
// when it looks at them, and when it does it finds out in milliseconds from the moment
// in which a processor had nothing to do, which is when the work before was done. So what
// that took would show in the end of the pause, to the microsecond.
type pauses struct {
	idle sync.Pool // of *alarm; what nobody uses is closed some time
}

// wait waits for d, above 0, or until ctx ends.
func (p *pauses) wait(ctx context.Context, d time.Duration) {
	a, _ := p.idle.Get().(*alarm)
	if a == nil {
		var err error
		if a, err = newAlarm(); err != nil {
			sleep(ctx, d) // such as without a descriptor left
			return
		}
	}
	if a.wait(ctx, d) {
		p.idle.Put(a)
		return
	}
	a.close()
}

// sleep waits by a timer of the runtime.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
