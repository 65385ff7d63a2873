package kafka

// Shard returns the shard of every connection of account: murmur2(account) mod shards (K6).
func Shard(account string, shards int32) int32 { return Partition([]byte(account), shards) }

// Partition returns the partition of key among count, as Java's producer and librdkafka's murmur2_random choose it (K3). count
// is the recorded one, never what metadata says now: a partition that an operator added must not move a key.
func Partition(key []byte, count int32) int32 {
	// Java computes (hash & 0x7fffffff) % count on signed numbers.
	return int32(murmur2(key)&0x7fffffff) % count
}

// murmur2 is Kafka's hash of a key (org.apache.kafka.common.utils.Utils.murmur2).
func murmur2(b []byte) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
		r           = 24
	)
	h := seed ^ uint32(len(b))
	for len(b) >= 4 {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
		b = b[4:]
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
