//go:build !linux

package wire

type conn struct{ portable *portable }

func (c *Conn) listen() (err error) {
	if c.cfg.Interface != "" {
		return errPortableInterface
	}
	c.portable, err = listenPortable(c.cfg.Local, c.cfg.ReceiveBuffer)
	c.reader = c.portable
	return err
}

func (c *Conn) newWriter() (Writer, error) { return c.portable.writer(), nil }
func (c *Conn) countDrops()                {}
func (c *Conn) close() error               { return c.portable.Close() }
