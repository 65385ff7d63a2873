//go:build unix

package state

import (
	"runtime"

	"golang.org/x/sys/unix"
)

func mapMemory(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmapMemory gives b back; the system refuses only what is not a mapping, and b is one.
func unmapMemory(b []byte) { _ = unix.Munmap(b) }

// adviseHuge asks for large pages, fewer of which are missed in a random access. It is a wish: an error changes nothing.
func adviseHuge(b []byte) {
	const madvHugepage = 14
	if runtime.GOOS == "linux" {
		_ = unix.Madvise(b, madvHugepage)
	}
}
