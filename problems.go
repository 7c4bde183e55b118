package dewar

import (
	"errors"
	"fmt"
	"time"
)

// problems gathers what is wrong with a configuration, so that the user hears
// of all of it at once.
type problems []error

func (p *problems) check(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Errorf(format, args...))
	}
}

func (p *problems) notNegative(field string, d time.Duration) {
	p.check(d >= 0, "%s must not be negative, but is %v", field, d)
}

func (p *problems) add(err error) {
	if err != nil {
		*p = append(*p, err)
	}
}

func (p problems) joined(what, name string) error {
	if len(p) == 0 {
		return nil
	}
	return fmt.Errorf("dewar: %s %.80q: %w", what, name, errors.Join(p...))
}
