//go:build !linux

package tun

import (
	"fmt"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

type device struct{}

func (d *Device) open(cfg Config) (err error) {
	if d.wg, err = wgtun.CreateTUN(cfg.Name, cfg.MTU); err != nil {
		return fmt.Errorf("make interface %s: %w", cfg.Name, err)
	}
	d.queues = []Reader{newPortableReader(d)}
	return nil
}

func (d *Device) newWriter() Writer { return newPortableWriter(d.wg) }
func (d *Device) close() error      { return d.wg.Close() }
