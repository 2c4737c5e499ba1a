package audit

import (
	"bytes"
	"context"
	"encoding/binary"
)

// Wrong is what can be wrong with events.
type Wrong int

// What can be wrong.
const (
	Missing   Wrong = iota + 1 // they were dropped, or moved away
	Changed                    // it is not what was recorded with its sequence: changed, moved here, or made up
	Replaced                   // one does not follow the other: in place of one of them something else was recorded
	Unchained                  // although the chain has begun before
	Extra                      // after the last change of the instance
	Cut                        // the head of the chain belongs to another event: newer ones were dropped, or it was put back
)

// Finding is what is wrong with some events.
type Finding struct {
	First, Last uint64 // sequences
	What        Wrong
}

// Progress says how far a verification has come. The zero value is the beginning.
type Progress struct {
	After uint64 // sequence of the last event that was verified
	// Chained: there was an event that is in the chain.
	Chained bool
}

// Report is what came of verifying a page.
type Report struct {
	Findings []Finding
	Checked  int // events that are in the chain and as they were
	Before   int // events from before the chain
	Next     Progress
	More     bool
	Sequence uint64 // of the instance's last change
	// Head tells the end of the chain from any other, without giving it away; nil until there is no More.
	Head []byte
}

// Verifier verifies what a store has.
type Verifier struct {
	Store Store
	Chain *Chain
}

// Verify verifies at most limit events of the instance.
func (v Verifier) Verify(ctx context.Context, instance string, from Progress, limit int) (Report, error) {
	page, err := v.Store.AuditPage(ctx, instance, from.After, limit+1) // the last one that was verified, too
	if err != nil {
		return Report{}, err
	}
	w := walk{chain: v.Chain, instance: instance, Report: Report{Next: from, More: page.More, Sequence: page.Sequence}}
	for i := range page.Rows {
		if err := w.step(&page.Rows[i], from.After); err != nil {
			return Report{}, err
		}
	}
	if !page.More {
		return w.Report, w.end(page)
	}
	return w.Report, nil
}

// walk goes along a chain.
type walk struct {
	Report
	chain    *Chain
	instance string
	mac      *Mac // of the last event, if it is as it was
}

func (w *walk) found(first, last uint64, what Wrong) {
	if n := len(w.Findings); n > 0 && w.Findings[n-1].What == what && what != Replaced && w.Findings[n-1].Last+1 == first {
		w.Findings[n-1].Last = last
		return
	}
	w.Findings = append(w.Findings, Finding{first, last, what})
}

// step looks at the next row; that of the sequence known was looked at before.
func (w *walk) step(r *Row, known uint64) error {
	mac, link, intact, err := w.chain.open(r)
	if err != nil {
		return err
	}
	if r.Sequence == known {
		if intact {
			w.mac = &mac
		}
		return nil
	}
	gap := r.Sequence != w.Next.After+1
	if gap {
		w.found(w.Next.After+1, r.Sequence-1, Missing)
		w.mac = nil
	}
	before := w.Next.After
	w.Next.After = r.Sequence
	switch {
	case len(r.Chain) == 0 && !w.Next.Chained:
		w.Before++
		return nil
	case len(r.Chain) == 0:
		w.mac = nil
		w.found(r.Sequence, r.Sequence, Unchained)
		return nil
	case !intact:
		w.mac, w.Next.Chained = nil, true
		w.found(r.Sequence, r.Sequence, Changed)
		return nil
	}
	if !gap {
		if err := w.follows(mac, link, before); err != nil {
			return err
		}
	}
	w.Checked++
	w.mac, w.Next.Chained = &mac, true
	return nil
}

// follows checks the link of an event to what is before it.
func (w *walk) follows(mac, link Mac, before uint64) error {
	switch {
	case w.mac != nil:
		if linkOf(mac, *w.mac) != link {
			w.found(before, before+1, Replaced)
		}
	case !w.Next.Chained:
		begun, err := w.begins(before, func(base Mac) bool { return linkOf(mac, base) == link })
		if err != nil {
			return err
		}
		if !begun && before > 0 {
			w.found(1, before, Unchained)
		} else if !begun {
			w.found(1, 1, Replaced)
		}
	}
	return nil // what followed something that is not as it was can't be told
}

// begins reports whether a chain may have begun with such a base.
func (w *walk) begins(before uint64, fits func(Mac) bool) (bool, error) {
	if before == 0 && fits(Mac{}) {
		return true, nil
	}
	for _, key := range w.chain.keys.AuditKeys() {
		base, err := w.chain.base(key, w.instance, before)
		if err != nil {
			return false, err
		}
		if fits(base) {
			return true, nil
		}
	}
	return false, nil
}

// end compares the last event with what the instance knows.
func (w *walk) end(page Page) error {
	last := w.Next.After
	latest := max(page.Sequence, page.Youngest)
	isHead := func(mac Mac) bool { return bytes.Equal(page.Head, mac[:]) }
	switch {
	case last > page.Sequence:
		w.found(page.Sequence+1, last, Extra)
	case last < latest:
		w.found(last+1, latest, Missing)
	case w.mac != nil && !isHead(*w.mac):
		w.found(last, last, Cut)
	case !w.Next.Chained && last > 0:
		begun, err := w.begins(last, isHead)
		if err != nil {
			return err
		}
		if !begun {
			w.found(1, last, Unchained)
		}
	case last == 0 && len(page.Head) > 0 && !isHead(Mac{}):
		w.found(0, 0, Cut)
	}
	if len(page.Head) > 0 {
		shown := linkOf(Mac(page.Head), Mac{})
		w.Head = shown[:]
	}
	return nil
}

// open returns the mac of a row that is in the chain, its link, and whether it is what was recorded with
// its sequence.
func (c *Chain) open(r *Row) (mac, link Mac, intact bool, err error) {
	if len(r.Chain) != rowChain {
		return mac, link, false, nil
	}
	key := binary.BigEndian.Uint32(r.Chain)
	if key == 0 {
		return mac, link, false, nil
	}
	tag, err := c.tag(key, r)
	if err != nil {
		return mac, link, false, nil //nolint:nilerr // a key that was never here is as wrong as any other byte
	}
	check, mac := tag.at(r.Sequence)
	kept := r.Chain[keySize:]
	return mac, Mac(kept[macSize:]), check == Mac(kept[:macSize]), nil
}
