package main

import "testing"

func TestAnArmIsANameAFolderAndFlags(t *testing.T) {
	var a arms
	if err := a.Set("one=bin --trace-ratio 0.01"); err != nil || a[0].name != "one" || a[0].bin != "bin" || len(a[0].flags) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"", "one", "=bin", "one="} {
		if a.Set(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
