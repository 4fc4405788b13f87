package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
)

const (
	campaignMethod = "/v3electionpb.Election/Campaign"
	proclaimMethod = "/v3electionpb.Election/Proclaim"
	leaderMethod   = "/v3electionpb.Election/Leader"
	observeMethod  = "/v3electionpb.Election/Observe"
	resignMethod   = "/v3electionpb.Election/Resign"
)

// What a campaign gives: an encoded LeaderKey.
func (s *side) campaign(name string, lease int64, value string) string {
	r, err := s.call(campaignMethod, msg{}.str(1, name).num(2, lease).str(3, value))
	if err != nil {
		s.sayError(fmt.Sprintf("campaign %q %d", name, lease), err)
		return ""
	}
	l := r.in(2)
	s.say("campaign %q %d %q: name %q key %q rev %d lease %d, %s", name, lease, value, l.str[1], l.str[2],
		l.num[3], l.num[4], header(r))
	return r.str[2]
}

func (s *side) campaignLater(name string, lease int64, value string, ret *string) *waiter {
	c, cancel := context.WithCancel(context.Background())
	w := &waiter{done: make(chan struct{}), cancel: cancel}
	go func() {
		r, err := invoke(c, s.conn, campaignMethod, msg{}.str(1, name).num(2, lease).str(3, value))
		w.ended.Store(true)
		who := fmt.Sprintf("candidate %d", lease)
		if err != nil {
			s.sayErrorAs(who, "campaign", err)
		} else {
			s.sayAs(who, "key %q rev %d, %s", r.in(2).str[2], r.in(2).num[3], header(r))
			*ret = r.str[2]
		}
		close(w.done)
	}()
	return w
}

func (s *side) proclaim(leader, value string) {
	r, err := s.call(proclaimMethod, msg{}.str(1, leader).str(2, value))
	if err != nil {
		s.sayError(fmt.Sprintf("proclaim %q", value), err)
		return
	}
	s.say("proclaim %q: %s", value, header(r))
}

func (s *side) resign(leader string) {
	r, err := s.call(resignMethod, msg{}.str(1, leader))
	if err != nil {
		s.sayError("resign", err)
		return
	}
	s.say("resign: %s", header(r))
}

func (s *side) leader(name string) {
	r, err := s.call(leaderMethod, msg{}.str(1, name))
	if err != nil {
		s.sayError(fmt.Sprintf("leader %q", name), err)
		return
	}
	kv := r.in(2)
	s.say("leader %q: %q=%q create %d mod %d version %d lease %d, %s", name, kv.str[1], kv.str[5], kv.num[2],
		kv.num[3], kv.num[4], kv.num[6], header(r))
}

// Observe says each message; `heard` gets one for each.
func (s *side) observe(name string) (heard chan struct{}, cancel func()) {
	c, stop := context.WithCancel(context.Background())
	heard = make(chan struct{}, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stream, err := s.conn.NewStream(c, &grpc.StreamDesc{ServerStreams: true}, observeMethod,
			grpc.ForceCodec(rawCodec{}))
		if err != nil {
			s.sayErrorAs("observer", "observe", err)
			return
		}
		request := []byte(msg{}.str(1, name))
		_ = stream.SendMsg(&request)
		_ = stream.CloseSend()
		for {
			var reply []byte
			if err := stream.RecvMsg(&reply); err != nil {
				s.sayErrorAs("observer", "ended", err)
				return
			}
			r := parse(reply)
			kv := r.in(2)
			s.sayAs("observer", "%q=%q mod %d, member %v", kv.str[1], kv.str[5], kv.num[3], r.in(1).num[2] != 0)
			heard <- struct{}{}
		}
	}()
	return heard, func() { stop(); <-ended }
}

func (s *side) hear(heard chan struct{}) {
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		s.say("nothing was heard")
	}
}

func electionScenes() []scene {
	return []scene{
		{"election: a leader from beginning to end", func(s *side) {
			s.grant(2001, 60)
			s.leader("e1")
			key := s.campaign("e1", 2001, "one")
			s.leader("e1")
			s.proclaim(key, "two")
			s.leader("e1")
			s.campaign("e1", 2001, "two") // it is already, with that value
			s.campaign("e1", 2001, "three")
			s.leader("e1")
			s.keys("e1/")
			s.resign(key)
			s.leader("e1")
			s.resign(key)
			s.proclaim(key, "four")
			s.keys("e1/")
		}},
		{"election: the next one waits", func(s *side) {
			s.grant(2101, 60)
			s.grant(2102, 60)
			first := s.campaign("e2", 2101, "a")
			var second string
			w := s.campaignLater("e2", 2102, "b", &second)
			s.say("blocked %v", w.blocked())
			s.leader("e2")
			s.proclaim(first, "still a")
			s.say("blocked %v", w.blocked())
			s.resign(first)
			w.wait(s, "candidate")
			s.leader("e2")
			s.resign(second)
		}},
		{"election: a candidate gives up", func(s *side) {
			s.grant(2201, 60)
			s.grant(2202, 60)
			first := s.campaign("e3", 2201, "a")
			var second string
			w := s.campaignLater("e3", 2202, "b", &second)
			s.say("blocked %v", w.blocked())
			w.cancel()
			w.wait(s, "candidate")
			s.say("gone %v", eventually(5*time.Second, func() bool { return !s.has("e3/89a") }))
			s.keys("e3/")
			s.resign(first)
		}},
		{"election: observed over several leaders", func(s *side) {
			s.grant(2301, 60)
			s.grant(2302, 60)
			heard, stop := s.observe("e4")
			time.Sleep(300 * time.Millisecond)
			first := s.campaign("e4", 2301, "a1")
			s.hear(heard)
			s.proclaim(first, "a2")
			s.hear(heard)
			var second string
			w := s.campaignLater("e4", 2302, "b1", &second)
			s.say("blocked %v", w.blocked())
			s.proclaim(first, "a3")
			s.hear(heard)
			s.resign(first)
			w.wait(s, "candidate")
			s.hear(heard)
			s.proclaim(second, "b2")
			s.hear(heard)
			s.resign(second)
			time.Sleep(200 * time.Millisecond)
			third := s.campaign("e4", 2301, "c1")
			s.hear(heard)
			stop()
			s.resign(third)
		}},
		{"election: observed from the middle", func(s *side) {
			s.grant(2401, 60)
			key := s.campaign("e5", 2401, "x")
			heard, stop := s.observe("e5")
			s.hear(heard)
			stop()
			s.resign(key)
		}},
		{"election: errors", func(s *side) {
			for _, method := range []string{proclaimMethod, resignMethod} {
				_, err := s.call(method, msg{}.str(2, "v"))
				s.sayError("no leader field", err)
				_, err = s.call(method, msg{0xff, 0xff})
				s.sayError("malformed", err)
			}
			s.campaign("e6", 9998, "unknown lease")
			none := string(msg{}.str(1, "e6").num(3, 5).num(4, 2001))
			s.proclaim(none, "no key")
			s.resign(none)
			wrong := string(msg{}.str(1, "e6").str(2, "e6/zz").num(3, 77).num(4, 2001))
			s.proclaim(wrong, "wrong")
			s.resign(wrong)
			s.leader("")
			_, err := s.call(leaderMethod, msg{0xff, 0xff})
			s.sayError("malformed", err)
			_, err = s.call(campaignMethod, msg{0xff, 0xff})
			s.sayError("malformed", err)
		}},
	}
}
