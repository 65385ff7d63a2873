package offsets

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tidemark/internal/cdc"
)

// sealFormat is the first byte of what Seal returns.
const sealFormat = 1

// Seal encrypts plain with AES-256-GCM under a random nonce. Record key (token/C) and generation are authenticated with it,
// so that a sealed token can neither be moved to another connection nor an older one be put in the place of a newer
// (DESIGN §9, K19). The error is one of the random source or the cipher and halts the connection.
func Seal(key [32]byte, recordKey string, generation int64, plain []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Connection, "seal token", "Report this: AES-GCM is missing on this machine", "%w", err)
	}
	return aead.Seal([]byte{sealFormat}, nil, plain, sealData(recordKey, generation)), nil
}

// Open decrypts what Seal made. Another key, record key or generation, and any changed byte, is an error that halts the
// connection; nothing is told of the content.
func Open(key [32]byte, recordKey string, generation int64, sealed []byte) ([]byte, error) {
	if len(sealed) > 0 && sealed[0] > sealFormat {
		return nil, newer(recordKey, fmt.Errorf("sealed in format %d, this version knows up to %d", sealed[0], sealFormat))
	}
	aead, err := newAEAD(key)
	if err == nil {
		err = errors.New("too short")
		if len(sealed) > 0 && sealed[0] == sealFormat {
			var plain []byte
			if plain, err = aead.Open(nil, nil, sealed[1:], sealData(recordKey, generation)); err == nil {
				return plain, nil
			}
		}
	}
	return nil, &cdc.Error{
		Op: "open token", Where: recordKey, Err: fmt.Errorf("generation %d: %w", generation, err), Remedy: cdc.Halt, Scope: cdc.Connection,
		Hint: "The token was sealed with another key, or its record was tampered with: give the key that sealed it, or put a new " +
			"grant in its place with `connector tokens replace`",
	}
}

func newAEAD(key [32]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealData is what is authenticated with a token. The length keeps the two parts apart.
func sealData(recordKey string, generation int64) []byte {
	b := binary.BigEndian.AppendUint64([]byte("tidemark token\x01"), uint64(len(recordKey)))
	b = append(b, recordKey...)
	return binary.BigEndian.AppendUint64(b, uint64(generation))
}

// Grant is what is sealed in a Token: the credentials that an OAuth server gave.
type Grant struct {
	Access, Refresh cdc.Secret
	Expires         time.Time // zero where the server did not say
}

// grant is Grant with its texts in clear: it exists only between JSON and the cipher.
type grant struct {
	Access  string    `json:"access,omitempty"`
	Refresh string    `json:"refresh,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// Seal seals the grant for the record of connection's token under generation.
func (g Grant) Seal(key [32]byte, connection string, generation int64) ([]byte, error) {
	plain, err := json.Marshal(grant{Access: g.Access.Reveal(), Refresh: g.Refresh.Reveal(), Expires: g.Expires})
	if err != nil {
		return nil, cdc.Errorf(cdc.Halt, cdc.Connection, "seal token", "The token server sent a time of expiry outside the years 0 to 9999", "%w", err)
	}
	return Seal(key, tokenKey(connection), generation, splice(1, plain))
}

// OpenGrant opens what Grant.Seal made, with the errors of Open and Decode.
func OpenGrant(key [32]byte, connection string, generation int64, sealed []byte) (Grant, error) {
	plain, err := Open(key, tokenKey(connection), generation, sealed)
	if err != nil {
		return Grant{}, err
	}
	g, err := decode[grant](plain, tokenKey(connection))
	return Grant{Access: cdc.NewSecret(g.Access), Refresh: cdc.NewSecret(g.Refresh), Expires: g.Expires}, err
}

func tokenKey(connection string) string { return Key{Kind: KindToken, Connection: connection}.String() }
