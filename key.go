package dewar

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"unsafe"
)

// JoinKey makes one key of several parts, so that different parts never make
// the same key: JoinKey("a:b", "c") is not JoinKey("a", "b:c"). Parts are
// joined by ":"; a backslash escapes ":" and "\" inside a part and stands,
// followed by "0", for an empty part.
func JoinKey(parts ...string) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(':')
		}
		if p == "" {
			b.WriteString(`\0`)
			continue
		}
		for j := range len(p) {
			if p[j] == ':' || p[j] == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(p[j])
		}
	}
	return b.String()
}

// keyer turns keys into the strings under which the tiers know them.
type keyer[K comparable] struct {
	isString bool           // K's kind is string: the key is its own string
	custom   bool           // of is Config.Key
	of       func(K) string // otherwise; nil when K needs Config.Key
}

// newKeyer prefers the user's own function and falls back on K's kind.
func newKeyer[K comparable](own func(K) string) keyer[K] {
	if own != nil {
		return keyer[K]{of: own, custom: true}
	}
	switch t := reflect.TypeFor[K](); t.Kind() {
	case reflect.String:
		return keyer[K]{isString: true}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return keyer[K]{of: func(k K) string { return strconv.FormatInt(reflect.ValueOf(k).Int(), 10) }}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return keyer[K]{of: func(k K) string { return strconv.FormatUint(reflect.ValueOf(k).Uint(), 10) }}
	default:
		return keyer[K]{}
	}
}

func (k keyer[K]) known() bool { return k.isString || k.of != nil }

// str is on the hit path. A string key costs nothing: its header is read
// through a pointer, since boxing it in an interface would allocate.
func (k *keyer[K]) str(key K) string {
	if k.isString {
		return *(*string)(unsafe.Pointer(&key))
	}
	return k.of(key)
}

var errNoParseKey = errors.New("set Config.ParseKey")

// parse makes a key of its string: by the user's function, or by K's kind.
func (k *keyer[K]) parse(str string, own func(string) (K, error)) (key K, err error) {
	switch {
	case own != nil:
		return own(str)
	case k.isString:
		return *(*K)(unsafe.Pointer(&str)), nil
	case k.custom:
		return key, errNoParseKey
	}
	v := reflect.ValueOf(&key).Elem()
	if v.CanInt() {
		n, err := strconv.ParseInt(str, 10, v.Type().Bits())
		v.SetInt(n)
		return key, err
	}
	n, err := strconv.ParseUint(str, 10, v.Type().Bits())
	v.SetUint(n)
	return key, err
}
