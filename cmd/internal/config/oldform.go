package config

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// isOld reports whether a file is of the old form. One whose name ends in .toml is
// not. Otherwise each line has a vote, by its key where that belongs to one form
// only, else by the quotes that TOML needs around a text; a file without a majority
// of old lines is TOML. So neither a mistake nor an unknown key makes it another
// form.
func isOld(path string, data []byte) bool {
	if strings.EqualFold(filepath.Ext(path), ".toml") {
		return false
	}
	old := 0
	for line := range strings.SplitSeq(strings.TrimPrefix(string(data), "\ufeff"), "\n") {
		old += vote(strings.TrimSpace(line))
	}
	return old > 0
}

// vote is 1 for the old form, -1 for TOML and 0 for neither.
func vote(line string) int {
	key, value, found := strings.Cut(line, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	switch {
	case strings.HasPrefix(line, "["):
		return -1
	case !found, strings.HasPrefix(line, "#"):
		return 0
	}
	isNew := slices.Contains(connectOrder, Key(key)) || slices.Contains(upOrder, Key(key))
	isOld := slices.Contains(oldKeys, key) || isIdle(key)
	switch {
	case isNew && !isOld:
		return -1
	case isOld && !isNew:
		return 1
	}
	return voteOfValue(value)
}

func voteOfValue(value string) int {
	if value == "" {
		return 1 // TOML has no empty values without quotes
	}
	if strings.ContainsAny(value[:1], `"'[{`) {
		return -1
	}
	if _, err := strconv.Atoi(value); err == nil || value == "true" || value == "false" {
		return 0
	}
	return 1
}
