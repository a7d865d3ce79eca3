//go:build !linux

package tun

func runChild(string) int { return 1 }
