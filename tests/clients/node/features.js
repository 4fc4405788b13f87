// All that the package etcd3 can do; see ../clients.py for what it is told and what it says.
'use strict';
const assert = require('assert');
const fs = require('fs');
const readline = require('readline');
const { ConstantBackoff, noop } = require('cockatiel'); // what etcd3 retries with
const etcd3 = require('etcd3');

const secure = process.env.CA !== undefined;
const hosts = process.env.ENDPOINTS.split(',').map(e => (secure ? 'https://' : 'http://') + e);
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

function connect(more = {}) {
  const options = { hosts, ...more };
  if (secure) {
    options.credentials = { rootCertificate: fs.readFileSync(process.env.CA) };
    if (!('auth' in options)) {
      options.auth = { username: process.env.USER, password: process.env.PASSWORD };
    }
  }
  return new etcd3.Etcd3(options);
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

// Have a member killed or started.
async function order(text) {
  console.log(text);
  assert.strictEqual((await answers.next()).value, 'done');
}

async function until(what, call, ms = 20000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(100)) {
    if (await call().catch(() => false)) return;
  }
  throw new Error('never ' + what);
}

// The first `count` events of a watcher: [kind, key, value].
function events(watcher, count, ms = 10000) {
  return new Promise((resolve, reject) => {
    const seen = [];
    const timer = setTimeout(() => reject(new Error('only ' + JSON.stringify(seen))), ms);
    const add = kind => kv => {
      seen.push([kind, kv.key.toString(), kv.value.toString()]);
      if (seen.length === count) { clearTimeout(timer); resolve(seen); }
    };
    watcher.on('put', add('put')).on('delete', add('delete'));
  });
}

const parts = {
  async putsAndGets(c) {
    await c.put('js/a').value('1');
    const put = await c.put('js/a').value(Buffer.from([0, 255, 10])).getPrevious();
    assert.strictEqual(put.value.toString(), '1');
    assert.deepStrictEqual(await c.get('js/a').buffer(), Buffer.from([0, 255, 10]));
    assert.strictEqual(await c.get('js/none'), null);
    assert.strictEqual(await c.get('js/a').serializable(true).exists(), true);
    await c.put('js/n').value(42);
    assert.strictEqual(await c.get('js/n').number(), 42);
    await c.put('js/j').value(JSON.stringify({ a: [1] }));
    assert.deepStrictEqual(await c.get('js/j').json(), { a: [1] });
    await c.put('js/j').touch();
    await c.put('js/j').ignoreLease().value('x');
    const big = 'x'.repeat(1500000);
    await c.put('js/big').value(big);
    assert.strictEqual(await c.get('js/big').string() === big, true);
    assert.strictEqual((await c.delete().key('js/big').exec()).deleted, '1');
    await assert.rejects(c.put('js/big').value('x'.repeat(3500000)));
  },

  async ranges(c) {
    for (let i = 0; i < 20; i++) await c.put(`js/r/${String(i).padStart(2, '0')}`).value(`v${19 - i}`);
    const all = c.getAll().prefix('js/r/');
    assert.strictEqual((await all.keys()).length, 20);
    assert.strictEqual(await c.getAll().prefix('js/r/').count(), 20);
    assert.deepStrictEqual(await c.getAll().prefix('js/r/').sort('Key', 'Descend').limit(2).keys(),
      ['js/r/19', 'js/r/18']);
    for (const target of ['Key', 'Version', 'Create', 'Mod', 'Value']) {
      assert.strictEqual((await c.getAll().prefix('js/r/').sort(target, 'Ascend').strings() !== null), true);
    }
    const between = await c.getAll().inRange({ start: 'js/r/05', end: 'js/r/08' }).strings();
    assert.deepStrictEqual(Object.keys(between), ['js/r/05', 'js/r/06', 'js/r/07']);
    const revision = (await c.get('js/r/00').exec()).kvs[0].mod_revision;
    assert.strictEqual(await c.get('js/r/01').revision(revision), null);
    assert.strictEqual((await c.getAll().prefix('js/r/').minModRevision(Number(revision) + 1).keys()).length, 19);
    const gone = await c.delete().prefix('js/r/').getPrevious();
    assert.strictEqual(gone.length, 20);
  },

  async transactions(c) {
    await c.put('js/t').value('1');
    const yes = await c.if('js/t', 'Value', '==', '1').and('js/t', 'Version', '>', 0)
      .and('js/none', 'Create', '==', 0)
      .then(c.put('js/t').value('2'), c.get('js/t'), c.delete().key('js/none'))
      .else(c.put('js/t').value('no')).commit();
    assert.strictEqual(yes.succeeded, true);
    assert.strictEqual(yes.responses[1].response_range.kvs[0].value.toString(), '2');
    const no = await c.if('js/t', 'Value', '!=', '2').then(c.put('js/t').value('no'))
      .else(c.put('js/t').value('3'), c.getAll().prefix('js/t')).commit();
    assert.strictEqual(no.succeeded, false);
    assert.strictEqual(no.responses[1].response_range.count, '1');
    assert.strictEqual(await c.get('js/t').string(), '3');
  },

  async stm(c) {
    await c.put('js/stm').value('0');
    const add = () => c.stm().transact(async tx => {
      await tx.put('js/stm').value(Number(await tx.get('js/stm').number()) + 1);
    });
    await Promise.all([...Array(5)].map(() => c.stm({ retries: 50 }).transact(
      tx => tx.get('js/stm').number().then(v => tx.put('js/stm').value(v + 1)))));
    await add();
    assert.strictEqual(await c.get('js/stm').number(), 6);
  },

  async leases(c) {
    const lease = c.lease(60);
    await lease.put('js/l/1').value('x');
    await lease.put('js/l/2').value('y');
    const alive = await lease.keepaliveOnce();
    assert.strictEqual(alive.TTL, '60');
    const id = await lease.grant();
    const told = await c.leaseClient.leaseTimeToLive({ ID: id, keys: true });
    assert.strictEqual(told.keys.length, 2);
    const listed = await c.leaseClient.leaseLeases();
    assert.strictEqual(listed.leases.some(l => l.ID === id), true);
    await lease.revoke();
    assert.strictEqual(await c.get('js/l/1'), null);
    const short = c.lease(1, { autoKeepAlive: false });
    await short.put('js/l/short').value('x');
    await until('ended', async () => (await c.get('js/l/short')) === null);
    const kept = c.lease(2);
    await kept.put('js/l/kept').value('x');
    await sleep(4000);
    assert.strictEqual(await c.get('js/l/kept').string(), 'x');
    await kept.revoke();
    const lost = c.lease(60);
    const gone = new Promise(resolve => lost.on('lost', resolve));
    await c.leaseClient.leaseRevoke({ ID: await lost.grant() });
    await assert.rejects(lost.keepaliveOnce());
    await gone;
  },

  async watches(c) {
    const watcher = await c.watch().prefix('js/w/').withPreviousKV().create();
    const seen = events(watcher, 3);
    await c.put('js/w/1').value('a');
    await c.put('js/w/1').value('b');
    await c.delete().key('js/w/1');
    assert.deepStrictEqual(await seen, [['put', 'js/w/1', 'a'], ['put', 'js/w/1', 'b'], ['delete', 'js/w/1', '']]);
    await watcher.cancel();
    const revision = (await c.put('js/w/2').value('old').exec()).header.revision;
    await c.put('js/w/2').value('new');
    const back = await c.watch().key('js/w/2').startRevision(revision).create();
    assert.strictEqual((await events(back, 2))[0][2], 'old');
    await back.cancel();
    // The package sends each one's filter for the other.
    const deletes = await c.watch().prefix('js/w/').ignore('delete').create();
    const gone = events(deletes, 1);
    await c.put('js/w/3').value('x');
    await c.delete().key('js/w/3');
    assert.deepStrictEqual(await gone, [['delete', 'js/w/3', '']]);
    await deletes.cancel();
  },

  async manyWatches(c) {
    const watchers = await Promise.all([...Array(50)].map((_, i) => c.watch().key(`js/mw/${i}`).create()));
    const seen = watchers.map(w => events(w, 1));
    await Promise.all(watchers.map((_, i) => c.put(`js/mw/${i}`).value(String(i))));
    (await Promise.all(seen)).forEach((e, i) => assert.strictEqual(e[0][2], String(i)));
    await Promise.all(watchers.map(w => w.cancel()));
  },

  async watchCompacted(c) {
    await c.put('js/c').value('1');
    const revision = (await c.put('js/c').value('2').exec()).header.revision;
    await c.put('js/c').value('3');
    await c.kv.compact({ revision });
    await assert.rejects(c.get('js/c').revision(Number(revision) - 1).exec(), /compacted/);
    await assert.rejects(c.kv.compact({ revision }), /compacted/);
  },

  async namespaces(c) {
    const n = c.namespace('js/ns/');
    await n.put('a').value('1');
    assert.strictEqual(await c.get('js/ns/a').string(), '1');
    assert.deepStrictEqual(await n.getAll().strings(), { a: '1' });
    const watcher = await n.watch().key('a').create();
    const seen = events(watcher, 1);
    await n.put('a').value('2');
    assert.deepStrictEqual(await seen, [['put', 'a', '2']]);
    await watcher.cancel();
    await n.delete().all();
    assert.strictEqual(await c.get('js/ns/a'), null);
  },

  async locks(c) {
    const order = [];
    await Promise.all([0, 1].map(i => (async () => {
      for (;;) {
        try {
          return await c.lock('js/lock').ttl(10).do(async () => { order.push(i, i); await sleep(50); });
        } catch (error) {
          if (!(error instanceof etcd3.EtcdLockFailedError)) throw error;
          await sleep(20);
        }
      }
    })()));
    assert.strictEqual(order.length, 4);
    assert.strictEqual(order[0], order[1]);
  },

  async elections(c) {
    const first = c.election('js/election', 5), second = c.election('js/election', 5);
    const one = first.campaign('one');
    await new Promise((resolve, reject) => one.on('elected', resolve).on('error', reject));
    assert.strictEqual(await second.leader(), 'one');
    const observer = await second.observe();
    const two = second.campaign('two');
    two.on('error', () => {});
    const elected = new Promise(resolve => two.on('elected', resolve));
    await sleep(200);
    await one.resign();
    await elected;
    await until('two', async () => observer.leader() === 'two');
    await two.resign();
    await observer.cancel();
  },

  async cluster(c) {
    const list = await c.cluster.memberList({});
    assert.strictEqual(list.members.length, 3);
    const m = list.members[0];
    await c.cluster.memberUpdate({ ID: m.ID, peerURLs: m.peerURLs });
    await assert.rejects(c.cluster.memberRemove({ ID: '1' }), /not found/);
  },

  async maintenance(c) {
    const status = await c.maintenance.status();
    assert.match(status.version, /^3\./);
    await c.maintenance.defragment();
    await c.maintenance.hash();
    assert.deepStrictEqual((await c.maintenance.alarm({ action: etcd3.AlarmAction.Get })).alarms, []);
    await c.maintenance.alarm({ action: etcd3.AlarmAction.Activate, memberID: status.header.member_id, alarm: etcd3.AlarmType.Nospace });
    await assert.rejects(c.put('js/full').value('x').exec(), /space/);
    await c.maintenance.alarm({ action: etcd3.AlarmAction.Deactivate, memberID: status.header.member_id, alarm: etcd3.AlarmType.Nospace });
    await c.put('js/full').value('x');
    if (secure) return; // the package sends no token with the next one
    const snapshot = await c.maintenance.snapshot();
    let size = 0;
    await new Promise((resolve, reject) => snapshot.on('data', part => { size += part.blob.length; })
      .on('end', resolve).on('error', reject));
    assert.strictEqual(size % 512, 32);
  },

  async users(c) {
    const role = await c.role('js').create();
    await role.grant({ permission: 'Readwrite', range: etcd3.Range.prefix('js/u/') });
    assert.strictEqual((await role.permissions()).length, 1);
    const user = await c.user('js').create('pw');
    await user.addRole('js');
    assert.deepStrictEqual((await user.roles()).map(r => r.name), ['js']);
    await user.setPassword('other');
    assert.strictEqual((await c.getUsers()).some(u => u.name === 'js'), true);
    assert.strictEqual((await c.getRoles()).some(r => r.name === 'js'), true);
    if (secure) {
      const known = connect({ auth: { username: 'js', password: 'other' } });
      await known.put('js/u/1').value('x');
      await assert.rejects(known.put('js/elsewhere').value('x').exec(), /permission denied/);
      const watcher = await known.watch().prefix('js/u/').create();
      const seen = events(watcher, 1);
      await known.put('js/u/1').value('y');
      await seen;
      await watcher.cancel();
      known.close();
      const wrong = connect({ auth: { username: 'js', password: 'wrong' } });
      await assert.rejects(wrong.get('js/u/1').string());
      wrong.close();
    }
    await user.removeRole('js');
    await user.delete();
    await role.revoke({ permission: 'Readwrite', range: etcd3.Range.prefix('js/u/') });
    await role.delete();
  },

  async manyAtOnce(c) {
    await Promise.all([...Array(500)].map((_, i) => c.put(`js/m/${i}`).value(String(i))));
    assert.strictEqual(await c.getAll().prefix('js/m/').count(), 500);
    await c.delete().prefix('js/m/');
  },

  // One of three members goes: the pool goes on with the others, and a watch continues.
  async memberRestarts() {
    const c = connect({ faultHandling: { host: () => noop, watchBackoff: new ConstantBackoff(200) } });
    const watcher = await c.watch().prefix('js/k/').create();
    let last = -1;
    watcher.on('put', kv => { last = Number(kv.value.toString()); }).on('error', () => {});
    for (let member = 0; member < 2; member++) {
      await order('KILL ' + member);
      await until('written', async () => { await c.put('js/k/1').value(String(member)); return true; }, 40000);
      await until('seen', async () => last === member, 40000);
      await order('START ' + member);
    }
    await watcher.cancel().catch(() => {});
    c.close();
  },
};

process.on('unhandledRejection', error => console.log('unhandled: ' + error.message));

async function main() {
  const client = connect();
  for (const [name, part] of Object.entries(parts)) {
    try {
      await Promise.race([part(client), sleep(name === 'memberRestarts' ? 60000 : 15000).then(() => { throw new Error('took too long'); })]);
      console.log('ok ' + name);
    } catch (error) {
      console.log(`FAILED ${name}: ${String(error.message).replace(/\s+/g, ' ')}`);
      console.log(error.stack);
    }
  }
  client.close();
  process.exit(0);
}
main();
