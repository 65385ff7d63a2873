// Package offsets is the format of what the connector stores in Kafka (K5): the readable keys and JSON values of the
// offsets topic, and the short binary values of the hashes topic. It owns no resource, never blocks, keeps nothing between
// calls and has no goroutine.
//
// The format is a promise to the future: whatever stands in testdata was written by some version, and every later version
// restores it. A change that an older version cannot read raises Format, or the first byte of a hash; an older version
// refuses such state (K12), since reading half of it would lose the other half with the next commit. Within one format
// nothing is tolerated that this version does not know: an unknown field is somebody's state.
//
// # The offsets topic
//
//	owner/C           Owner            who owns connection C; stands in the hashes topic too
//	stream/C/S        Stream           what stands in the topic of stream S
//	cursor/C/S/P      cdc.Checkpoint   S names the request where one request feeds several streams
//	parked/C/S/K      Parked           the record of key K that stands in the dead-letter topic (P19)
//	candidate/C/S/K   Candidate        a record that is missing, withheld, or held back as older
//	recent/C/S/P/n    Recent           ids already published (P13), in pieces
//	window/C/S/P/n    (no value yet)   a finished window of a pass (P15)
//	file/C/S/K/n      File             a file that the record of key K names
//	token/C           Token            the sealed grant (K19)
//
// # The hashes topic
//
// C/S/K with the value of AppendHash. A key of two parts is the owner record's, owner/C; a hash has three or more, since K
// may hold slashes of its own.
package offsets
