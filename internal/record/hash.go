package record

import (
	"math/bits"

	"github.com/zeebo/xxh3"
)

// The type tags, one for each kind, so that 1, "1", [], {} and null are told apart, and odd constants without a pattern.
// They are part of Algorithm 1 and must never change.
const (
	tagString  = 0x9E3779B97F4A7C15
	tagDecimal = 0xC2B2AE3D27D4EB4F
	tagInteger = 0x165667B19E3779F9
	tagLiteral = 0x27D4EB2F165667C5
	tagObject  = 0x85EBCA77C2B2AE63
	tagArray   = 0xD6E8FEB86659FD93
	tagIndex   = 0xFF51AFD7ED558CCD
	tagValue   = 0xC4CEB9FE1A85EC53
	tagAbsent  = 0x2545F4914F6CDD1D

	mixA = 0xA0761D6478BD642F
	mixB = 0xE7037ED1A0B428DB
	mixC = 0x8EBC6AF09C88C6E3
	mixD = 0x589965CC75374CC3
)

// mix binds x to seed: two rounds of a folded 128-bit product, so that every bit of both reaches every bit of the result.
func mix(x, seed uint64) uint64 {
	x = fold(x^mixA, seed^mixB)
	return fold(x^mixC, bits.RotateLeft64(seed, 32)^mixD)
}

func fold(a, b uint64) uint64 {
	h, l := bits.Mul64(a, b)
	return h ^ l
}

// container closes an object or an array: sum of its members' hashes, how many they are, tag of its kind.
func container(sum, count, tag, seed uint64) uint64 { return mix(sum+count*mixB, seed^tag) }

func hashString(content []byte, seed uint64) uint64 { return xxh3.HashSeed(content, seed^tagString) }

// hashInteger takes every number whose value is an integer of at most 18 digits, however it was written.
func hashInteger(n int64, seed uint64) uint64 { return mix(uint64(n), seed^tagInteger) }

// hashDecimal takes the canonical text of all other numbers.
func hashDecimal(canonical []byte, seed uint64) uint64 {
	return xxh3.HashSeed(canonical, seed^tagDecimal)
}

func hashLiteral(k Kind, seed uint64) uint64 { return mix(uint64(k), seed^tagLiteral) }
