package main

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// --- maintenance and cluster ---

func (g *generator) maintenanceStep() step {
	const service = "etcdserverpb.Maintenance/"
	switch g.rng.Intn(16) {
	case 0:
		return g.alarms()
	case 1, 2:
		return g.call(service+"Status", &pb.StatusRequest{})
	case 3:
		return g.call(service+"Defragment", &pb.DefragmentRequest{})
	case 4:
		return g.call(service+"Hash", &pb.HashRequest{})
	case 5:
		return g.call(service+"Snapshot", &pb.SnapshotRequest{})
	case 6:
		return g.call(service+"MoveLeader", &pb.MoveLeaderRequest{TargetID: uint64(g.rng.Intn(3))})
	case 7:
		return g.call(service+"Downgrade", &pb.DowngradeRequest{
			Action: pick(g, pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_VALIDATE,
				pb.DowngradeRequest_CANCEL, pb.DowngradeRequest_DowngradeAction(7)),
			Version: pick(g, "", "3.6.0", "3.5.0", "3.7.0", "3.8.0", "2.0.0", "x", "3.6", "v3.6.0", "3.6.9-rc.1")})
	}
	// COMPAT differs, HashKV: at a revision of an earlier compaction etcd may still answer, with a hash that it
	// COMPAT   kept of what was there before; here it is `required revision has been compacted`, as in an etcd that was restarted
	// Not where there was a compaction: of that etcd may keep a hash of what was there before.
	return g.call(service+"HashKV", &pb.HashKVRequest{Revision: pick(g, 0, currentRevision,
		currentRevision+1+g.rng.Int63n(3), compactedRevision+1+g.rng.Int63n(int64(pick(g, 2, 40))))})
}

// alarms are raised, stand for a few steps, and are taken back.
func (g *generator) alarms() step {
	const method = "etcdserverpb.Maintenance/Alarm"
	alarm := pick(g, pb.AlarmType_NOSPACE, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT, pb.AlarmType_NONE,
		pb.AlarmType(9))
	raise := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: uint64(1 + g.rng.Intn(3)), Alarm: alarm}
	first := g.call(method, raise)
	for n := g.rng.Intn(8); n > 0; n-- {
		g.laterNext()
	}
	g.later(g.call(method, &pb.AlarmRequest{Action: pb.AlarmRequest_GET, Alarm: pick(g, alarm, 0)}))
	calm := step{Kind: stepCall, Method: method, Message: encode(&pb.AlarmRequest{
		Action: pb.AlarmRequest_DEACTIVATE, MemberID: raise.MemberID, Alarm: alarm})}
	if g.auth {
		calm.Identity = identityRoot
	}
	g.later(calm, calm)
	return first
}

func (g *generator) clusterStep() step {
	const service = "etcdserverpb.Cluster/"
	urls := pick(g, []string{}, []string{"x"}, []string{"http://127.0.0.1"}, []string{"ftp://127.0.0.1:1"},
		[]string{""}, []string{"http://127.0.0.1:1/path"}, []string{"http://localhost:abc"})
	switch g.rng.Intn(6) {
	case 0:
		return g.call(service+"MemberAdd", &pb.MemberAddRequest{PeerURLs: urls, IsLearner: g.chance(30)})
	case 1:
		return g.call(service+"MemberRemove", &pb.MemberRemoveRequest{ID: uint64(g.rng.Intn(3))})
	case 2:
		return g.call(service+"MemberUpdate", &pb.MemberUpdateRequest{ID: uint64(g.rng.Intn(3)), PeerURLs: urls})
	case 3:
		return g.call(service+"MemberPromote", &pb.MemberPromoteRequest{ID: uint64(g.rng.Intn(3))})
	}
	return g.call(service+"MemberList", &pb.MemberListRequest{Linearizable: g.chance(50)})
}

// --- auth ---

const (
	identityNone = iota
	identityRoot
	identityUser1
	identityUser2
	identityGarbage
	identities
)

var identityNames = [identities]string{"nobody", "root", "u1", "u2", "garbage"}

func (g *generator) identity() int {
	if !g.auth {
		return identityNone
	}
	switch n := g.rng.Intn(100); {
	case n < 50:
		return identityRoot
	case n < 90:
		return pick(g, identityUser1, identityUser2)
	case n < 96:
		return identityNone
	}
	return identityGarbage
}

func (g *generator) logins() []step {
	var steps []step
	for identity := identityRoot; identity < identityGarbage; identity++ {
		steps = append(steps, login(identity, identityNames[identity], "pw"))
	}
	return steps
}

func login(identity int, name, password string) step {
	return step{Kind: stepLogin, Method: "etcdserverpb.Auth/Authenticate", Identity: identity,
		Message: encode(&pb.AuthenticateRequest{Name: name, Password: password})}
}

func (g *generator) setUpAuth() {
	const service = "etcdserverpb.Auth/"
	do := func(s step) {
		s.Identity = identityNone
		g.later(s)
	}
	for identity := identityRoot; identity < identityGarbage; identity++ {
		do(g.call(service+"UserAdd", &pb.AuthUserAddRequest{Name: identityNames[identity], Password: "pw"}))
	}
	do(g.call(service+"RoleAdd", &pb.AuthRoleAddRequest{Name: "root"}))
	do(g.call(service+"UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}))
	for _, role := range []string{"r1", "r2"} {
		do(g.call(service+"RoleAdd", &pb.AuthRoleAddRequest{Name: role}))
		for n := g.rng.Intn(4); n > 0; n-- {
			do(g.call(service+"RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: role,
				Perm: g.permission()}))
		}
		do(g.call(service+"UserGrantRole", &pb.AuthUserGrantRoleRequest{User: pick(g, "u1", "u2"), Role: role}))
	}
	do(g.call(service+"AuthEnable", &pb.AuthEnableRequest{}))
	g.later(g.logins()...)
}

func (g *generator) permission() *authpb.Permission {
	key := g.key()
	return &authpb.Permission{PermType: authpb.Permission_Type(g.rng.Intn(3)), Key: key, RangeEnd: g.end(key)}
}

func (g *generator) authStep() step {
	const service = "etcdserverpb.Auth/"
	user := pick(g, "root", "u1", "u2", "u3", "u4", "", "nobody")
	role := pick(g, "root", "r1", "r2", "r3", "r4", "", "norole")
	password := pick(g, "pw", "pw", "pw", "other", "")
	switch g.rng.Intn(24) {
	case 0:
		return g.call(service+"AuthStatus", &pb.AuthStatusRequest{})
	case 1:
		if g.auth {
			g.later(g.call(service+"AuthEnable", &pb.AuthEnableRequest{}))
			g.later(g.logins()...)
			return g.call(service+"AuthDisable", &pb.AuthDisableRequest{})
		}
		return g.call(service+"AuthDisable", &pb.AuthDisableRequest{})
	case 2:
		if !g.auth { // root never has its role here: refused
			return g.call(service+"AuthEnable", &pb.AuthEnableRequest{})
		}
		return login(pick(g, identityUser1, identityUser2), pick(g, "u1", "u2", user), password)
	case 3:
		return g.call(service+"Authenticate", &pb.AuthenticateRequest{Name: user, Password: password})
	case 4, 5:
		r := &pb.AuthUserAddRequest{Name: user, Password: password}
		if g.chance(30) {
			r.Options = &authpb.UserAddOptions{NoPassword: g.chance(70)}
		}
		return g.call(service+"UserAdd", r)
	case 6:
		return g.call(service+"UserGet", &pb.AuthUserGetRequest{Name: user})
	case 7:
		return g.call(service+"UserList", &pb.AuthUserListRequest{})
	case 8:
		return g.call(service+"UserDelete", &pb.AuthUserDeleteRequest{Name: pick(g, user, "u3", "u4")})
	case 9:
		return g.call(service+"UserChangePassword", &pb.AuthUserChangePasswordRequest{Name: pick(g, user, "u3"),
			Password: "pw"})
	case 10, 11, 12:
		return g.call(service+"UserGrantRole", &pb.AuthUserGrantRoleRequest{User: user, Role: g.grantable(role)})
	case 13:
		return g.call(service+"UserRevokeRole", &pb.AuthUserRevokeRoleRequest{Name: user, Role: role})
	case 14, 15:
		return g.call(service+"RoleAdd", &pb.AuthRoleAddRequest{Name: g.grantable(role)})
	case 16:
		return g.call(service+"RoleGet", &pb.AuthRoleGetRequest{Role: role})
	case 17:
		return g.call(service+"RoleList", &pb.AuthRoleListRequest{})
	case 18:
		return g.call(service+"RoleDelete", &pb.AuthRoleDeleteRequest{Role: role})
	case 19, 20, 21, 22:
		r := &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: g.permission()}
		if g.chance(3) {
			r.Perm = nil
		}
		return g.call(service+"RoleGrantPermission", r)
	}
	key := g.key()
	return g.call(service+"RoleRevokePermission",
		&pb.AuthRoleRevokePermissionRequest{Role: role, Key: key, RangeEnd: g.end(key)})
}

// grantable keeps root's role out of a history in which auth is to stay off.
func (g *generator) grantable(role string) string {
	if role == "root" && !g.auth {
		return "r1"
	}
	return role
}

// --- lock and election ---

func (g *generator) lockStep() step {
	name := pick(g, []byte("lock/a"), []byte("lock/b"), []byte{}, g.key())
	// COMPAT better, Lock and Election: with authentication on, etcd leaves the key of a call whose client gave up while
	// COMPAT   it waited, until the lease ends, and everybody behind it waits; here it goes
	// With auth, etcd leaves the key of a call that was given up while it waited.
	if g.auth || g.chance(50) {
		return g.call("v3lockpb.Lock/Unlock", &v3lockpb.UnlockRequest{
			Key: []byte(fmt.Sprintf("%s/%x", name, g.lease()))})
	}
	lease := g.lease()
	if lease <= 0 {
		lease = 999999 // 0: a lease of the server's own
	}
	return g.call("v3lockpb.Lock/Lock", &v3lockpb.LockRequest{Name: name, Lease: lease})
}

func (g *generator) electionStep() step {
	const service = "v3electionpb.Election/"
	name := pick(g, []byte("elect/a"), []byte("elect/b"), []byte{})
	lease := g.lease()
	if lease <= 0 {
		lease = 999999
	}
	leader := &v3electionpb.LeaderKey{Name: name, Key: []byte(fmt.Sprintf("%s/%x", name, lease)),
		Rev: g.revision(), Lease: lease}
	if g.chance(10) {
		leader = nil
	}
	switch g.rng.Intn(8) {
	case 0, 1:
		if g.auth {
			break
		}
		return g.call(service+"Campaign", &v3electionpb.CampaignRequest{Name: name, Lease: lease, Value: g.value()})
	case 2:
		return g.call(service+"Proclaim", &v3electionpb.ProclaimRequest{Leader: leader, Value: g.value()})
	case 3, 4, 5:
		return g.call(service+"Leader", &v3electionpb.LeaderRequest{Name: name})
	}
	return g.call(service+"Resign", &v3electionpb.ResignRequest{Leader: leader})
}
