package daemon

import (
	"sixin4/cmd/internal/hook"
	"sixin4/tsp/client"
)

// Teller hears what a negotiated tunnel goes through, in order, for those who
// show it to people. It must not block.
type Teller interface {
	Event(e client.Event)
	// Setup says that the tunnel is being set up with these values, by a script or,
	// when script is empty, by this program itself; Done says that this has ended.
	Setup(vars []hook.Variable, script string)
	// Line is a line that a script printed.
	Line(line string)
	Done()
}

// silent tells nobody.
type silent struct{}

func (silent) Event(client.Event)            {}
func (silent) Setup([]hook.Variable, string) {}
func (silent) Line(string)                   {}
func (silent) Done()                         {}

// Negotiation is how a program wants its tunnel negotiated, and who hears of it.
// The zero value will do.
type Negotiation struct {
	GiveUp  client.GiveUp                // when to stop trying
	Classic bool                         // MTU and routes as the template scripts of old set them
	Verbose int                          // for TSP_VERBOSE, 0 to 3
	Home    string                       // TSP_HOME_INTERFACE of a host, for which there is no setting; may be empty
	Teller  Teller                       // nil tells nobody
	Trace   func(sent bool, text []byte) // see client.Config
}

func (e Env) tell() Teller {
	if e.Teller == nil {
		return silent{}
	}
	return e.Teller
}
