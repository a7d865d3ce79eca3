package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// drops are packets that queues had no room for, since they are there: what the kernel
// lost before anybody read it.
type drops struct {
	device float64 // from the kernel to tspd, at its TUN
	broker float64 // from the clients to tspd, at its raw sockets
	crowd  float64 // from tspd to the clients, at theirs
}

// dropsNow reads them.
func (m *brokers) dropsNow() (d drops, err error) {
	if err = m.topo.B.Do(func() error {
		if d.device, err = sumOf("dev", deviceDrops); err != nil {
			return err
		}
		d.broker, err = sumOf("raw", lastNumber)
		return err
	}); err != nil {
		return d, err
	}
	return d, m.topo.A.Do(func() error {
		d.crowd, err = sumOf("raw", lastNumber)
		return err
	})
}

// since is what was lost after before.
func (d drops) since(before drops) drops {
	return drops{d.device - before.device, d.broker - before.broker, d.crowd - before.crowd}
}

func (d drops) String() string {
	return fmt.Sprintf("%.0f at the device of tspd, %.0f at its raw socket, %.0f at that of the clients", d.device, d.broker, d.crowd)
}

// sumOf adds up what of finds in the lines of a file about the namespace of this thread.
func sumOf(file string, of func(line string) float64) (sum float64, err error) {
	text, err := os.ReadFile("/proc/thread-self/net/" + file)
	for line := range strings.Lines(string(text)) {
		sum += of(line)
	}
	return sum, err
}

// deviceDrops is what a tunnel device of /proc/net/dev had no room for: the fourth number
// of the eight about sending. A device with "tspd" in its name is the broker's.
func deviceDrops(line string) float64 {
	name, numbers, _ := strings.Cut(line, ":")
	if fields := strings.Fields(numbers); len(fields) > 11 && strings.Contains(name, "tspd") {
		return numberOf(fields[11])
	}
	return 0
}

// lastNumber is the last one of a line of /proc/net/raw: drops.
func lastNumber(line string) float64 {
	if fields := strings.Fields(line); len(fields) > 0 {
		return numberOf(fields[len(fields)-1])
	}
	return 0
}

// numberOf is 0 for what is none, as in a title.
func numberOf(s string) float64 {
	n, _ := strconv.ParseFloat(s, 64)
	return n
}
