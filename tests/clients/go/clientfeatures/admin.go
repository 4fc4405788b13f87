package main

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"
)

var adminParts = []part{{"members", members}, {"maintenance", maintenance}, {"snapshots", snapshots},
	{"downgrade", downgrade}, {"users", users}, {"tokens", tokens}}

func members(ctx context.Context, c *clientv3.Client) {
	list := need(c.MemberList(ctx)).Members
	equal(len(list), 3)
	equal(len(need(c.MemberList(ctx, clientv3.WithSerializable())).Members), 3)
	need(c.MemberUpdate(ctx, list[0].ID, list[0].PeerURLs))
	_, err := c.MemberRemove(ctx, 1)
	equal(err, rpctypes.ErrMemberNotFound)
	_, err = c.MemberPromote(ctx, list[0].ID)
	equal(err, rpctypes.ErrMemberNotLearner)
	_, err = c.MemberAdd(ctx, list[1].PeerURLs)
	equal(err, rpctypes.ErrPeerURLExist)
	var learner *clientv3.MemberAddResponse
	until("a learner added", func() bool { // refused until all have been there for five seconds
		learner, err = c.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"})
		return err == nil
	})
	_, err = c.MemberPromote(ctx, learner.Member.ID)
	equal(err, rpctypes.ErrMemberLearnerNotReady)
	need(c.MemberRemove(ctx, learner.Member.ID))
	before := append([]string{}, c.Endpoints()...)
	must(c.Sync(ctx))
	equal(len(c.Endpoints()), 3)
	c.SetEndpoints(before...)
}

func maintenance(ctx context.Context, c *clientv3.Client) {
	var leader uint64
	hashes := map[uint32]bool{}
	for _, endpoint := range c.Endpoints() {
		status := need(c.Status(ctx, endpoint))
		leader = status.Leader
		equal(status.IsLearner, false)
		need(c.Defragment(ctx, endpoint))
	}
	rev := need(c.Put(ctx, "go/hash", "x")).Header.Revision
	for _, endpoint := range c.Endpoints() {
		until("applied", func() bool { return need(c.Status(ctx, endpoint)).Header.Revision >= rev })
		hashes[need(c.HashKV(ctx, endpoint, rev)).Hash] = true
	}
	equal(len(hashes), 1)
	for _, endpoint := range c.Endpoints() {
		one := connect(func(cfg *clientv3.Config) { cfg.Endpoints = []string{endpoint} })
		status := need(one.Status(ctx, endpoint))
		if status.Header.MemberId == leader {
			for _, m := range need(c.MemberList(ctx)).Members {
				if m.ID != leader {
					need(one.MoveLeader(ctx, m.ID))
					equal(need(one.Status(ctx, endpoint)).Leader != leader, true)
					break
				}
			}
		} else {
			_, err := one.MoveLeader(ctx, 1)
			equal(err != nil, true)
		}
		must(one.Close())
	}
	api := etcdserverpb.NewMaintenanceClient(c.ActiveConnection())
	need(api.Alarm(ctx, &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: leader,
		Alarm: etcdserverpb.AlarmType_NOSPACE}))
	equal(len(need(c.AlarmList(ctx)).Alarms), 1)
	until("full", func() bool { _, err := c.Put(ctx, "go/full", "x"); return err == rpctypes.ErrNoSpace })
	need(c.AlarmDisarm(ctx, &clientv3.AlarmMember{}))
	equal(len(need(c.AlarmList(ctx)).Alarms), 0)
	until("writable", func() bool { _, err := c.Put(ctx, "go/full", "x"); return err == nil })
}

func snapshots(ctx context.Context, c *clientv3.Client) {
	answer := need(c.SnapshotWithVersion(ctx))
	equal(answer.Version != "", true)
	data := need(io.ReadAll(answer.Snapshot))
	sum := sha256.Sum256(data[:len(data)-sha256.Size])
	equal(string(sum[:]), string(data[len(data)-sha256.Size:]))
	folder := need(os.MkdirTemp("", "clientfeatures-"))
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "snapshot")
	one := config()
	one.Endpoints = one.Endpoints[:1]
	version := need(snapshot.SaveWithVersion(ctx, zap.NewNop(), one, path))
	equal(version, answer.Version)
	equal(need(os.Stat(path)).Size()%512, int64(32))
}

func downgrade(ctx context.Context, c *clientv3.Client) {
	need(c.Downgrade(ctx, clientv3.DowngradeValidate, "3.6"))
	_, err := c.Downgrade(ctx, clientv3.DowngradeValidate, "3.4")
	equal(err, rpctypes.ErrInvalidDowngradeTargetVersion)
	need(c.Downgrade(ctx, clientv3.DowngradeCancel, ""))
}

func users(ctx context.Context, c *clientv3.Client) {
	need(c.RoleAdd(ctx, "go"))
	need(c.RoleGrantPermission(ctx, "go", "go/u/", clientv3.GetPrefixRangeEnd("go/u/"),
		clientv3.PermissionType(clientv3.PermReadWrite)))
	equal(len(need(c.RoleGet(ctx, "go")).Perm), 1)
	need(c.UserAdd(ctx, "go", "pw"))
	need(c.UserAddWithOptions(ctx, "go-certificate", "", &clientv3.UserAddOptions{NoPassword: true}))
	need(c.UserChangePassword(ctx, "go", "other"))
	need(c.UserGrantRole(ctx, "go", "go"))
	equal(need(c.UserGet(ctx, "go")).Roles, []string{"go"})
	equal(len(need(c.UserList(ctx)).Users) >= 2, true)
	equal(len(need(c.RoleList(ctx)).Roles) >= 1, true)
	equal(need(c.AuthStatus(ctx)).Enabled, secure)
	need(c.UserRevokeRole(ctx, "go", "go"))
	need(c.RoleRevokePermission(ctx, "go", "go/u/", clientv3.GetPrefixRangeEnd("go/u/")))
	need(c.UserDelete(ctx, "go"))
	need(c.UserDelete(ctx, "go-certificate"))
	need(c.RoleDelete(ctx, "go"))
}

// tokens: a client with a user while auth comes and goes; its token is renewed when it is no longer good.
func tokens(ctx context.Context, c *clientv3.Client) {
	admin := c
	if !secure {
		need(c.UserAdd(ctx, "root", "secret"))
		need(c.RoleAdd(ctx, "root"))
		need(c.UserGrantRole(ctx, "root", "root"))
		need(c.AuthEnable(ctx))
		admin = connect(func(cfg *clientv3.Config) { cfg.Username, cfg.Password = "root", "secret" })
	}
	need(admin.UserAdd(ctx, "user", "pw"))
	need(admin.RoleAdd(ctx, "role"))
	need(admin.RoleGrantPermission(ctx, "role", "go/u/", clientv3.GetPrefixRangeEnd("go/u/"),
		clientv3.PermissionType(clientv3.PermReadWrite)))
	need(admin.UserGrantRole(ctx, "user", "role"))
	u := connect(func(cfg *clientv3.Config) { cfg.Username, cfg.Password = "user", "pw" })
	need(u.Put(ctx, "go/u/1", "x"))
	_, err := u.Put(ctx, "go/other", "x")
	equal(err, rpctypes.ErrPermissionDenied)
	watch := u.Watch(ctx, "go/u/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	equal(within(watch).Created, true)
	equal(within(u.Watch(ctx, "go/other")).Canceled, true)
	// With a new revision of what is allowed, and without the old token, which goes with a password.
	need(admin.UserChangePassword(ctx, "user", "pw"))
	time.Sleep(100 * time.Millisecond)
	need(u.Put(ctx, "go/u/1", "y"))
	equal(string(within(watch).Events[0].Kv.Value), "y")
	lease := need(u.Grant(ctx, 60)).ID
	need(u.KeepAliveOnce(ctx, lease))
	need(u.Put(ctx, "go/u/2", "x", clientv3.WithLease(lease)))
	need(u.Revoke(ctx, lease))
	must(u.Close())
	if !secure {
		_, err = c.Put(ctx, "go/u/1", "x")
		equal(err, rpctypes.ErrUserEmpty)
	}
	need(admin.UserDelete(ctx, "user"))
	need(admin.RoleDelete(ctx, "role"))
	if !secure {
		need(admin.AuthDisable(ctx))
		must(admin.Close())
		need(c.UserDelete(ctx, "root"))
		need(c.RoleDelete(ctx, "root"))
	}
}
