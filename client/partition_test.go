package client

import "testing"

// The values are those of the tests of Kafka's own clients.
func TestKeysHashAsInKafka(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestKeyPartitionStaysInRange(t *testing.T) {
	for i := range 1000 {
		key := []byte{byte(i), byte(i >> 8), 7}
		if p := KeyPartition(key, 7); p < 0 || p >= 7 {
			t.Fatalf("partition %d of 7", p)
		}
	}
}
