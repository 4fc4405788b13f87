package main

import (
	"fmt"
)

// What a watcher asks for.
type wish struct {
	name         string
	key, end     string // end "": one key
	prev         bool
	noPut, noDel bool
	fragment     bool
	notify       bool // progress notifications
	fromNow      bool // starts at the revision of its creation, not at 1
}

func (w *wish) wants(e *event) bool {
	if (w.noPut && !e.deleted) || (w.noDel && e.deleted) {
		return false
	}
	if w.end == "" {
		return e.key == w.key
	}
	return e.key >= w.key && e.key < w.end
}

type mark struct {
	rev   int64
	count int // events that had come before it
}

// A record is what one watcher received over all of its connections, judged as it comes. Owner: whoever
// holds the watcher's lock.
type record struct {
	wish
	start    int64 // events of this revision and later are wanted; 0: not known yet
	events   []event
	dropped  int // events judged before and forgotten
	marks    []mark
	pieces   []event // of a message whose fragments have not all come
	promised int64   // by a bookmark: nothing of this revision or before may come any more
	newest   int64   // revision of the last event
	cursor   int     // index in the timeline's events from where the next judgement goes on
	wrong    []string
	stats    struct{ events, messages, fragments, bookmarks, resumes int }
}

func (r *record) complain(format string, args ...any) {
	if len(r.wrong) < 5 {
		r.wrong = append(r.wrong, "watcher "+r.name+": "+fmt.Sprintf(format, args...))
	}
}

// next is the revision from which a new watch has to go on.
func (r *record) next() int64 { return max(r.start, r.newest+1, r.promised+1) }

// disconnected forgets the fragments of a message whose rest will not come.
func (r *record) disconnected() {
	r.pieces = nil
	r.stats.resumes++
}

// message takes in one answer's events; `more` says that fragments of it are to follow.
func (r *record) message(events []event, more bool) {
	r.stats.messages++
	if more {
		r.stats.fragments++
		if !r.fragment {
			r.complain("a fragment that it did not ask for")
		}
	}
	r.pieces = append(r.pieces, events...)
	if more {
		return
	}
	events, r.pieces = r.pieces, nil
	if len(events) > 0 && events[0].rev == r.newest {
		r.complain("revision %d comes in two messages", r.newest)
	}
	for i := range events {
		e := &events[i]
		switch {
		case e.rev < r.newest:
			r.complain("revision %d after %d", e.rev, r.newest)
		case e.rev <= r.promised:
			r.complain("revision %d after the bookmark %d", e.rev, r.promised)
		case e.rev < r.start:
			r.complain("revision %d, asked for from %d", e.rev, r.start)
		}
		r.newest = max(r.newest, e.rev)
		r.events = append(r.events, *e)
		r.stats.events++
	}
}

// bookmark takes in a progress notification.
func (r *record) bookmark(rev int64) {
	r.stats.bookmarks++
	if r.pieces != nil {
		r.complain("bookmark %d between the fragments of a message", rev)
	}
	if rev < r.newest {
		r.complain("bookmark %d after an event of revision %d", rev, r.newest)
	}
	r.promised = max(r.promised, rev)
	r.marks = append(r.marks, mark{rev, r.dropped + len(r.events)})
}

// reached says whether it has been told of everything up to a revision.
func (r *record) reached(rev int64) bool { return r.newest >= rev || r.promised >= rev }

// judge compares what came with what there is to see, up to and with a revision.
func (r *record) judge(t *timeline, upTo int64) {
	got := 0
	marks := r.marks
	for ; r.cursor < len(t.events) && t.events[r.cursor].rev <= upTo; r.cursor++ {
		e := &t.events[r.cursor]
		if e.rev < r.start || !r.wants(e) {
			continue
		}
		for len(marks) > 0 && marks[0].rev < e.rev {
			marks = marks[1:]
		}
		if len(marks) > 0 && r.dropped+got >= marks[0].count {
			r.complain("bookmark %d came before %q at %d", marks[0].rev, e.key, e.rev)
			marks = nil
		}
		if got == len(r.events) || r.events[got].rev > upTo {
			r.complain("it was not told of %q at %d", e.key, e.rev)
			return
		}
		came := &r.events[got]
		if came.key != e.key || came.rev != e.rev || came.deleted != e.deleted || came.now != e.now {
			r.complain("expected %q at %d: %v, came %q at %d: %v", e.key, e.rev, e.now, came.key, came.rev,
				came.now)
			return
		}
		want := kv{}
		if r.prev {
			want = e.before
		}
		if came.before != want {
			r.complain("%q at %d: prev_kv %v, before was %v", e.key, e.rev, came.before, want)
		}
		got++
	}
	if got < len(r.events) && r.events[got].rev <= upTo {
		r.complain("%q at %d is one event too many", r.events[got].key, r.events[got].rev)
		return
	}
	r.events = append([]event(nil), r.events[got:]...)
	r.dropped += got
	for len(r.marks) > 0 && r.marks[0].rev <= upTo {
		r.marks = r.marks[1:]
	}
}
