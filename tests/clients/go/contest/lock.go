package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	lockMethod   = "/v3lockpb.Lock/Lock"
	unlockMethod = "/v3lockpb.Lock/Unlock"
)

func (s *side) lock(name string, lease int64) string {
	r, err := s.call(lockMethod, msg{}.str(1, name).num(2, lease))
	if err != nil {
		s.sayError(fmt.Sprintf("lock %q %d", name, lease), err)
		return ""
	}
	s.say("lock %q %d: key %q %s", name, lease, r.str[2], header(r))
	return r.str[2]
}

func (s *side) unlock(key string) {
	r, err := s.call(unlockMethod, msg{}.str(1, key))
	if err != nil {
		s.sayError(fmt.Sprintf("unlock %q", key), err)
		return
	}
	s.say("unlock %q: %s", key, header(r))
}

// A waiter is a call that is expected to block.
type waiter struct {
	done   chan struct{}
	ended  atomic.Bool
	cancel context.CancelFunc
}

func (w *waiter) blocked() bool {
	time.Sleep(150 * time.Millisecond)
	return !w.ended.Load()
}

func (w *waiter) wait(s *side, what string) {
	select {
	case <-w.done:
	case <-time.After(15 * time.Second):
		s.say("%s never ended", what)
	}
}

func (s *side) lockLater(name string, lease int64) *waiter {
	c, cancel := context.WithCancel(context.Background())
	w := &waiter{done: make(chan struct{}), cancel: cancel}
	go func() {
		r, err := invoke(c, s.conn, lockMethod, msg{}.str(1, name).num(2, lease))
		w.ended.Store(true)
		who := fmt.Sprintf("waiter %d", lease)
		if err != nil {
			s.sayErrorAs(who, "lock", err)
		} else {
			s.sayAs(who, "key %q %s", r.str[2], header(r))
		}
		close(w.done)
	}()
	return w
}

func lockScenes() []scene {
	return []scene{
		{"lock: one after the other", func(s *side) {
			s.grant(1001, 60)
			s.grant(1002, 60)
			key := s.lock("a", 1001)
			s.lock("a", 1001) // the same session has it already
			w := s.lockLater("a", 1002)
			s.say("blocked %v", w.blocked())
			s.keys("a/")
			s.unlock(key)
			w.wait(s, "waiter")
			s.unlock(key) // is not there any more
			s.keys("a/")
		}},
		{"lock: in the order in which they came", func(s *side) {
			for i := int64(0); i < 6; i++ {
				s.grant(1100+i, 60)
			}
			key := s.lock("order", 1100)
			waiters := []*waiter{}
			for i := int64(1); i < 6; i++ {
				waiters = append(waiters, s.lockLater("order", 1100+i))
				eventually(5*time.Second, func() bool { return s.has(fmt.Sprintf("order/%x", 1100+i)) })
			}
			s.keys("order/")
			for i, w := range waiters {
				s.say("blocked %v", w.blocked())
				s.unlock(key)
				w.wait(s, "waiter")
				key = fmt.Sprintf("order/%x", 1101+i)
			}
			s.keys("order/")
		}},
		{"lock: one in the middle gives up", func(s *side) {
			for i := int64(0); i < 3; i++ {
				s.grant(1200+i, 60)
			}
			key := s.lock("middle", 1200)
			second := s.lockLater("middle", 1201)
			eventually(5*time.Second, func() bool { return s.has("middle/4b1") })
			third := s.lockLater("middle", 1202)
			eventually(5*time.Second, func() bool { return s.has("middle/4b2") })
			s.say("blocked %v %v", second.blocked(), third.blocked())
			second.cancel()
			second.wait(s, "second")
			s.say("gone %v", eventually(5*time.Second, func() bool { return !s.has("middle/4b1") }))
			s.say("blocked %v", third.blocked())
			s.unlock(key)
			third.wait(s, "third")
			s.keys("middle/")
		}},
		{"lock: an expired lease wakes the next", func(s *side) {
			s.grant(1301, 2)
			s.grant(1302, 60)
			s.lock("expiry", 1301)
			w := s.lockLater("expiry", 1302)
			s.say("blocked %v", w.blocked())
			w.wait(s, "waiter")
			s.keys("expiry/")
		}},
		{"lock: the waiter's own lease ends", func(s *side) {
			s.grant(1401, 60)
			s.grant(1402, 60)
			key := s.lock("own", 1401)
			w := s.lockLater("own", 1402)
			s.say("blocked %v", w.blocked())
			if _, err := s.lease.LeaseRevoke(ctx(), &pb.LeaseRevokeRequest{ID: 1402}); err != nil {
				s.sayError("revoke", err)
			}
			s.say("blocked %v", w.blocked())
			s.unlock(key)
			w.wait(s, "waiter")
			s.keys("own/")
		}},
		{"lock: a key that somebody put by hand", func(s *side) {
			s.grant(1501, 60)
			if _, err := s.kv.Put(ctx(), &pb.PutRequest{Key: []byte("hand/x"), Value: []byte("v")}); err != nil {
				s.sayError("put", err)
			}
			w := s.lockLater("hand", 1501)
			s.say("blocked %v", w.blocked())
			_, _ = s.kv.Put(ctx(), &pb.PutRequest{Key: []byte("hand/x"), Value: []byte("w")})
			s.say("blocked %v", w.blocked())
			_, _ = s.kv.DeleteRange(ctx(), &pb.DeleteRangeRequest{Key: []byte("hand/x")})
			w.wait(s, "waiter")
			s.keys("hand/")
		}},
		{"lock: errors", func(s *side) {
			s.lock("nobody", 9999)
			s.unlock("")
			s.unlock("not there")
			s.grant(1601, 60)
			s.lock("", 1601)
			s.keys("/")
			s.lock("neg", -5)
			s.lock(strings.Repeat("n", 1000), 1601)
			_, err := s.call(lockMethod, msg{0xff, 0xff})
			s.sayError("malformed", err)
			_, err = s.call(unlockMethod, msg{0xff, 0xff})
			s.sayError("malformed", err)
		}},
		{"lock: a lease of the server's", func(s *side) {
			r, err := s.call(lockMethod, msg{}.str(1, "session"))
			if err != nil {
				s.sayError("lock", err)
				return
			}
			key := r.str[2]
			kv, err := s.kv.Range(ctx(), &pb.RangeRequest{Key: []byte(key)})
			if err != nil || len(kv.Kvs) != 1 {
				s.say("no key")
				return
			}
			lease := kv.Kvs[0].Lease
			s.say("key as the lease %v, %s", key == fmt.Sprintf("session/%x", lease), header(r))
			ttl, err := s.lease.LeaseTimeToLive(ctx(), &pb.LeaseTimeToLiveRequest{ID: lease, Keys: true})
			if err != nil {
				s.sayError("ttl", err)
				return
			}
			s.say("granted %d, keys %d, left %v", ttl.GrantedTTL, len(ttl.Keys), ttl.TTL > 50)
			_, err = s.call(unlockMethod, msg{}.str(1, key))
			s.say("unlocked %v, there %v", err == nil, s.has(key))
		}},
	}
}
