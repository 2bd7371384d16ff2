//go:build !unix

package backup

import "os"

// lockFolder does nothing: this system can't lock a folder.
func lockFolder(*os.File) error { return nil }

// syncFolder does nothing: this system can't sync a folder, and keeps names by itself.
func syncFolder(*os.File) error { return nil }
