//go:build !linux

package state

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

func openDir(string) (*os.Root, error)            { return nil, errors.ErrUnsupported }
func trust(fs.FileInfo) error                     { return errors.ErrUnsupported }
func acquire(*os.Root, string) (io.Closer, error) { return nil, errors.ErrUnsupported }
func self() (owner, error)                        { return owner{}, errors.ErrUnsupported }
func started(int) (uint64, error)                 { return 0, errors.ErrUnsupported }
