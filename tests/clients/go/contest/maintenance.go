package main

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (s *side) downgrade(action pb.DowngradeRequest_DowngradeAction, version string) {
	r, err := s.mt.Downgrade(ctx(), &pb.DowngradeRequest{Action: action, Version: version})
	if err != nil {
		s.sayError("downgrade "+action.String()+" "+version, err)
		return
	}
	s.say("downgrade %s %q: version %q, revision %v, member %v", action, version, r.Version,
		r.Header.Revision > 0, r.Header.MemberId != 0)
}

func (s *side) versions() {
	r, err := s.mt.Status(ctx(), &pb.StatusRequest{})
	if err != nil {
		s.sayError("status", err)
		return
	}
	s.say("status: version %s storage %s downgrade %v %q", r.Version, r.StorageVersion, r.DowngradeInfo.Enabled,
		r.DowngradeInfo.TargetVersion)
}

// The leader lowers and raises the cluster's version some seconds later.
func (s *side) untilStorage(version string) {
	ok := eventually(20*time.Second, func() bool {
		r, err := s.mt.Status(ctx(), &pb.StatusRequest{})
		return err == nil && r.StorageVersion == version
	})
	s.say("storage becomes %s: %v", version, ok)
}

func maintenanceScenes() []scene {
	const validate, enable, cancel = pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_ENABLE,
		pb.DowngradeRequest_CANCEL
	return []scene{
		{"downgrade: checks", func(s *side) {
			for _, action := range []pb.DowngradeRequest_DowngradeAction{validate, enable} {
				for _, version := range []string{"", "x", "3", "3.5", "3.7", "3.7.0", "3.8", "4.6", "3.6.x", "3.6.0.0",
					"3.x", "-3.6", "+3.6", "3.6-", " 3.6", "2.6.0", "3.-6.0", "v3.6.0"} {
					s.downgrade(action, version)
				}
			}
			for _, version := range []string{"3.6", "3.6.0", "3.6.9", "3.6.0-rc.1", "3.6.0+meta"} {
				s.downgrade(validate, version)
			}
			s.downgrade(cancel, "")
			s.downgrade(cancel, "nonsense")
			s.downgrade(7, "3.6")
			s.versions()
		}},
		{"downgrade: and back", func(s *side) {
			s.downgrade(enable, "3.6")
			s.downgrade(enable, "3.6")
			s.untilStorage("3.6.0")
			s.versions()
			s.downgrade(validate, "3.6")
			s.downgrade(validate, "3.5")
			s.downgrade(enable, "3.5")
			s.downgrade(cancel, "")
			s.untilStorage("3.7.0")
			s.versions()
			s.downgrade(cancel, "")
			s.downgrade(validate, "3.6")
		}},
		{"no space", func(s *side) {
			s.grant(3001, 60)
			key := s.campaign("full", 3001, "before")
			st, err := s.mt.Status(ctx(), &pb.StatusRequest{})
			if err != nil {
				s.sayError("status", err)
				return
			}
			alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: st.Header.MemberId,
				Alarm: pb.AlarmType_NOSPACE}
			_, err = s.mt.Alarm(ctx(), alarm)
			s.say("raised %v", err == nil)
			s.lock("full", 0)
			s.lock("full", 3001)
			s.campaign("full", 3001, "after")
			s.proclaim(key, "after")
			s.leader("full")
			s.resign(key)
			alarm.Action = pb.AlarmRequest_DEACTIVATE
			_, err = s.mt.Alarm(ctx(), alarm)
			s.say("disarmed %v", err == nil)
			s.leader("full")
		}},
		{"defragment and hash", func(s *side) {
			r, err := s.mt.Defragment(ctx(), &pb.DefragmentRequest{})
			if err != nil {
				s.sayError("defragment", err)
				return
			}
			s.say("defragment: header %v", r.Header)
			h, err := s.mt.Hash(ctx(), &pb.HashRequest{})
			if err != nil {
				s.sayError("hash", err)
				return
			}
			s.say("hash: %v, revision %d, member %v", h.Hash != 0, h.Header.Revision, h.Header.MemberId != 0)
		}},
	}
}
