package control

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
)

const suffix = ".sock"

// SystemDir is where sockets are when the process may write there.
const SystemDir = "/run/sixin4"

// Dirs returns the directories that hold sockets, the preferred one first.
// runtimeDir is the value of XDG_RUNTIME_DIR, which may be empty.
func Dirs(runtimeDir string) []string {
	dirs := []string{SystemDir}
	if filepath.IsAbs(runtimeDir) {
		dirs = append(dirs, filepath.Join(runtimeDir, "sixin4"))
	}
	return dirs
}

// Path returns the path of the socket for a tunnel that is called name, in the
// first of dirs that exists or could be made and can be written, or in the first
// when none can. dirs is not empty. It makes nothing.
func Path(dirs []string, name string) string {
	dir := dirs[max(slices.IndexFunc(dirs, writable), 0)]
	return filepath.Join(dir, name+suffix)
}

// writable reports whether dir can be written, or be made in its parent.
func writable(dir string) bool {
	err := access(dir)
	if errors.Is(err, os.ErrNotExist) {
		err = access(filepath.Dir(dir))
	}
	return err == nil
}

// Sockets returns the paths of the sockets in dirs, or of those called name when
// it is not empty. A directory that is missing has none.
func Sockets(dirs []string, name string) []string {
	if name == "" {
		name = "*"
	}
	var paths []string
	for _, dir := range dirs {
		found, _ := filepath.Glob(filepath.Join(dir, name+suffix)) // the only error is a bad pattern
		paths = append(paths, found...)
	}
	return paths
}
