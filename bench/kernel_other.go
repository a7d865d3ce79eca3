//go:build !linux

package bench

func kernel() string { return "is not what runs here" }
