package wireguard

import (
	"context"
	"errors"
	"fmt"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

func run(ctx context.Context, cfg Config, settings string) error {
	iface, err := tun.CreateTUN(cfg.Name, MTU)
	if err != nil {
		return fmt.Errorf("wireguard: make interface %q: %w", cfg.Name, err)
	}
	d := device.NewDevice(iface, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, "wireguard: "))
	defer d.Close()
	if err := d.IpcSet(settings); err != nil {
		return fmt.Errorf("wireguard: configure: %w", err)
	}
	if err := d.Up(); err != nil {
		return fmt.Errorf("wireguard: start: %w", err)
	}
	if cfg.Ready != nil {
		cfg.Ready()
	}
	select {
	case <-d.Wait():
		return errors.New("wireguard: the device ended")
	case <-ctx.Done():
		return nil
	}
}
