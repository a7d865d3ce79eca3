// Package bench measures the engine against what else could carry the packets,
// and shows it at work: `sixin4 bench pair`, `sixin4 bench micro` and
// `sixin4 demo`; `sixin4 bench broker` measures the broker. Everything happens in network namespaces that it makes itself,
// by child processes of the same program, and in the demo of the broker tspd.
//
// Only ratios taken in one run mean anything on a shared machine: what is
// compared is measured in turns (A B C A B C), and ratios are taken per turn.
// The search for the highest loss-free rate is that of RFC 2544, Section 26.1
// (from memory), with its loss allowance stated.
package bench

import "sixin4/bench/traffic"

// The hidden subcommands, as the child processes are started.
const (
	command       = "bench"
	hiddenNaive   = "naive"
	hiddenTraffic = "traffic"
	hiddenAttack  = "attack"
	hiddenFlood   = "flood"

	hiddenWireGuard = "wireguard"
)

// Hidden runs the child process that args, the command line without the
// program's name, asks for, and returns its exit status. handled is false when
// the command line is not one of the hidden ones.
func Hidden(args []string) (exit int, handled bool) {
	if len(args) < 2 || args[0] != command {
		return 0, false
	}
	switch args[1] {
	case hiddenTraffic:
		return traffic.Main(args[2:]), true
	case hiddenNaive:
		return naiveMain(args[2:]), true
	case hiddenFlood:
		return floodMain(args[2:]), true
	case hiddenWireGuard:
		return wireguardMain(args[2:]), true
	case hiddenAttack:
		return attackersMain(args[2:]), true
	}
	return 0, false
}
