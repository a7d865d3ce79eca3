package nstest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What linux/ethtool.h calls ETH_SS_FEATURES and ETH_GSTRING_LEN.
const (
	stringSetFeatures = 4
	stringLen         = 32
)

// shortNames are the names that `ethtool -K` takes for kernel features; one
// that ends in a star stands for all that begin so.
var shortNames = map[string]string{
	"gro": "rx-gro",
	"gso": "tx-generic-segmentation",
	"tso": "tx-tcp*",
	"sg":  "tx-scatter-gather*",
	"tx":  "tx-checksum-*",
	"rx":  "rx-checksum",
}

// feature is one offload of a device; its place in the list is its number.
type feature struct {
	name       string
	changeable bool
	active     bool
}

func (ns *NS) features(name string) (map[string]bool, error) {
	active := make(map[string]bool)
	err := ns.withEthtool("read features of", name, func(e *ethtool) error {
		list, err := e.features()
		for _, f := range list {
			if f.name != "" { // a number that is not in use
				active[f.name] = f.active
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return active, nil
}

func (ns *NS) setFeature(name, feature string, on bool) error {
	op := fmt.Sprintf("set feature %s=%t of", feature, on)
	return ns.withEthtool(op, name, func(e *ethtool) error {
		list, err := e.features()
		if err != nil {
			return err
		}
		chosen, err := choose(list, feature)
		if err != nil {
			return err
		}
		if err := e.setFeatures(len(list), chosen, on); err != nil {
			return err
		}
		return e.checkFeatures(chosen, on)
	})
}

// choose returns the numbers of the features that are meant by name.
func choose(list []feature, name string) ([]int, error) {
	pattern := name
	if long, ok := shortNames[name]; ok {
		pattern = long
	}
	begin, many := strings.CutSuffix(pattern, "*")
	var chosen []int
	for i, f := range list {
		if f.name == pattern || many && f.changeable && strings.HasPrefix(f.name, begin) {
			chosen = append(chosen, i)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("the kernel or the device has no such feature: %w", unix.EOPNOTSUPP)
	}
	return chosen, nil
}

// ethtool speaks SIOCETHTOOL about one device.
type ethtool struct {
	socket int
	device [unix.IFNAMSIZ]byte
}

func (ns *NS) withEthtool(op, name string, fn func(*ethtool) error) error {
	return ns.Do(func() error {
		e := new(ethtool)
		if copy(e.device[:], name) == len(e.device) {
			return fmt.Errorf("%s %s: %w", op, name, unix.ENODEV) // too long to be one
		}
		var err error
		e.socket, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			defer func() { _ = unix.Close(e.socket) }() // nothing was sent
			err = fn(e)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", op, name, err)
		}
		return nil
	})
}

// call hands the kernel one command, a struct of linux/ethtool.h with the
// command number in front, and lets it write its answer there. The status is
// what the kernel returns beside an error; only ETHTOOL_SFEATURES uses it.
func (e *ethtool) call(command []byte) (status uintptr, err error) {
	request := struct {
		device [unix.IFNAMSIZ]byte
		data   unsafe.Pointer
		_      [16]byte // struct ifreq is longer than any user of it
	}{device: e.device, data: unsafe.Pointer(unsafe.SliceData(command))}
	status, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(e.socket),
		unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(command)
	if errno != 0 {
		return 0, errno
	}
	return status, nil
}

// words makes a command of 32-bit numbers followed by room for the answer.
func words(room int, numbers ...uint32) []byte {
	b := make([]byte, 0, 4*len(numbers)+room)
	for _, n := range numbers {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b[:cap(b)]
}

// featureCount asks for the length of the list (struct ethtool_sset_info: the
// command, a reserved word, a 64-bit mask of sets, then one length per set).
func (e *ethtool) featureCount() (int, error) {
	info := words(4, unix.ETHTOOL_GSSET_INFO, 0, 0, 0)
	binary.NativeEndian.PutUint64(info[8:], 1<<stringSetFeatures)
	if _, err := e.call(info); err != nil {
		return 0, err
	}
	return int(binary.NativeEndian.Uint32(info[16:])), nil
}

func (e *ethtool) features() ([]feature, error) {
	count, err := e.featureCount()
	if err != nil {
		return nil, err
	}
	names := words(count*stringLen, unix.ETHTOOL_GSTRINGS, stringSetFeatures, uint32(count))
	if _, err := e.call(names); err != nil {
		return nil, err
	}
	blocks := (count + 31) / 32
	bits := words(blocks*16, unix.ETHTOOL_GFEATURES, uint32(blocks))
	if _, err := e.call(bits); err != nil {
		return nil, err
	}
	list := make([]feature, count)
	for i := range list {
		name, _, _ := bytes.Cut(names[12+i*stringLen:12+(i+1)*stringLen], []byte{0})
		// Of each 32 features: available, requested, active, never changed.
		block := bits[8+i/32*16:]
		available := binary.NativeEndian.Uint32(block)
		active := binary.NativeEndian.Uint32(block[8:])
		bit := uint32(1) << (i % 32)
		list[i] = feature{string(name), available&bit != 0, active&bit != 0}
	}
	return list, nil
}

func (e *ethtool) setFeatures(count int, chosen []int, on bool) error {
	blocks := (count + 31) / 32
	command := words(blocks*8, unix.ETHTOOL_SFEATURES, uint32(blocks))
	for _, i := range chosen {
		// Of each 32 features: which to change, and to what.
		block := command[8+i/32*8:]
		bit := uint32(1) << (i % 32)
		binary.NativeEndian.PutUint32(block, binary.NativeEndian.Uint32(block)|bit)
		if on {
			binary.NativeEndian.PutUint32(block[4:], binary.NativeEndian.Uint32(block[4:])|bit)
		}
	}
	// The status tells that some wish was not granted, not which: the list does.
	_, err := e.call(command)
	return err
}

func (e *ethtool) checkFeatures(chosen []int, on bool) error {
	list, err := e.features()
	if err != nil {
		return err
	}
	for _, i := range chosen {
		if list[i].active != on {
			return fmt.Errorf("%s is still %t: %w", list[i].name, list[i].active, unix.EOPNOTSUPP)
		}
	}
	return nil
}

// setGRODefer reaches the two parameters by a sysfs of its own: a mounted one
// shows the network namespace it was mounted in, not the reader's.
func (ns *NS) setGRODefer(name string, flushTimeout, deferIRQs int) error {
	return ns.Do(func() error {
		sysfs, err := openSysfs()
		if err == nil {
			defer func() { _ = unix.Close(sysfs) }() // only a handle on the tree
			err = writeSysfs(sysfs, "class/net/"+name+"/gro_flush_timeout", flushTimeout)
		}
		if err == nil {
			err = writeSysfs(sysfs, "class/net/"+name+"/napi_defer_hard_irqs", deferIRQs)
		}
		if help := machineMissing(); help != "" && errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w (%s)", err, help)
		}
		if err != nil {
			return fmt.Errorf("set GRO deferral of %s: %w", name, err)
		}
		return nil
	})
}

// openSysfs returns a sysfs that shows the calling thread's network namespace.
// It is mounted nowhere and goes when its descriptor is closed. Linux 5.2.
func openSysfs() (int, error) {
	config, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open sysfs: %w", err)
	}
	defer func() { _ = unix.Close(config) }() // the mount does not need it
	if err := unix.FsconfigCreate(config); err != nil {
		return -1, fmt.Errorf("configure sysfs: %w", err)
	}
	tree, err := unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount sysfs: %w", err)
	}
	return tree, nil
}

func writeSysfs(tree int, path string, value int) error {
	fd, err := unix.Openat(tree, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }() // sysfs acts in write
	if _, err := unix.Write(fd, []byte(strconv.Itoa(value))); err != nil {
		return fmt.Errorf("write %d to %s: %w", value, path, err)
	}
	return nil
}
