package ifcfg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What linux/xfrm.h calls XFRM_MSG_GETDEFAULT, XFRMA_SPD_INFO and
// XFRM_USERPOLICY_BLOCK.
const (
	getDefaultPolicy = 0x28
	attrPolicyCounts = 1
	policyBlock      = 1
)

// ipsecPolicies finds IPsec policies for what leaves this host, or for what comes
// to it, of either IP version: the kernel counts them together.
func (d direction) ipsecPolicies() ([]string, error) {
	count, err := d.policyCount()
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT) && !pathExists(pfkeyFile):
		return nil, nil // without either interface there is no way to make one
	case err != nil:
		return nil, explain("count IPsec policies", err)
	case count > 0:
		return []string{fmt.Sprintf("IPsec policies for %s (%d)", d.name, count)}, nil
	}
	blocks, err := d.defaultBlocks()
	if err != nil {
		return nil, explain("ask for the default IPsec policy", err)
	}
	if blocks {
		return []string{"the default IPsec policy, which blocks " + d.name}, nil
	}
	return nil, nil
}

// pfkeyFile is there when the kernel has the older interface to IPsec (RFC 2367).
const pfkeyFile = "/proc/thread-self/net/pfkey"

func pathExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (d direction) policyCount() (uint32, error) {
	request := nl.NewNetlinkRequest(nl.XFRM_MSG_GETSPDINFO, 0)
	request.AddRawData(make([]byte, 4)) // flags
	answers, err := request.Execute(unix.NETLINK_XFRM, 0)
	if err != nil {
		return 0, err
	}
	if len(answers) != 1 || len(answers[0]) < 4 {
		return 0, errShort
	}
	attrs, err := attributes(answers[0][4:])
	if err != nil {
		return 0, err
	}
	counts := attrs[attrPolicyCounts] // inward, outward, forwarded, and the same of sockets
	if len(counts) < 8 {
		return 0, errShort
	}
	return binary.NativeEndian.Uint32(counts[4*d.policy:]), nil
}

// defaultBlocks reports whether what no policy is about is blocked. Kernels before 5.15 refuse the question, and block nothing.
func (d direction) defaultBlocks() (bool, error) {
	request := nl.NewNetlinkRequest(getDefaultPolicy, 0)
	request.AddRawData(make([]byte, 4)) // in, forward, out, and padding
	answers, err := request.Execute(unix.NETLINK_XFRM, 0)
	switch {
	case errors.Is(err, unix.EINVAL):
		return false, nil
	case err != nil:
		return false, err
	case len(answers) != 1 || len(answers[0]) < 3:
		return false, errShort
	}
	return answers[0][d.defaultPolicy] == policyBlock, nil
}
