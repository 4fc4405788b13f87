//! What the tests of the crate etcd-client leave out: TLS with a user, three endpoints of which some go,
//! many calls at once. See ../../clients.py for what this is told and what it says.

use etcd_client::*;
use std::env;
use std::future::Future;
use std::io::BufRead;
use std::time::Duration;
use tokio::time::{sleep, timeout};

type Outcome = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;
const WAIT: Duration = Duration::from_secs(40);

async fn connect() -> std::result::Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let secure = env::var("CA").is_ok();
    let scheme = if secure { "https://" } else { "http://" };
    let endpoints: Vec<String> =
        env::var("ENDPOINTS")?.split(',').map(|e| format!("{scheme}{e}")).collect();
    let mut options = ConnectOptions::new()
        .with_require_leader(true)
        .with_timeout(Duration::from_secs(5))
        .with_keep_alive(Duration::from_secs(1), Duration::from_secs(2));
    if secure {
        let pem = std::fs::read(env::var("CA")?)?;
        let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(pem)).domain_name("localhost");
        options = options.with_tls(tls).with_user(env::var("USER")?, env::var("PASSWORD")?);
    }
    Ok(Client::connect(endpoints, Some(options)).await?)
}

/// Have a member killed or started.
fn order(text: &str) -> Outcome {
    println!("{text}");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer != "done\n" {
        return Err("no answer to an order".into());
    }
    Ok(())
}

async fn check<F: Future<Output = Outcome>>(name: &str, part: F) {
    match timeout(Duration::from_secs(90), part).await {
        Ok(Ok(())) => println!("ok {name}"),
        Ok(Err(error)) => println!("FAILED {name}: {}", format!("{error:?}").replace('\n', " ")),
        Err(_) => println!("FAILED {name}: took too long"),
    }
}

fn must(what: bool, why: &str) -> Outcome {
    if what { Ok(()) } else { Err(why.into()) }
}

async fn kv(mut c: Client) -> Outcome {
    c.put("rs/a", "1", None).await?;
    let put = c.put("rs/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    must(put.prev_key().map(|kv| kv.value()) == Some(b"1"), "the previous value")?;
    let got = c.get("rs/", Some(GetOptions::new().with_prefix())).await?;
    must(got.kvs()[0].value() == b"2", "the value")?;
    let big = "x".repeat(1_500_000);
    c.put("rs/big", big.clone(), None).await?;
    must(c.get("rs/big", None).await?.kvs()[0].value() == big.as_bytes(), "a large value")?;
    let txn = Txn::new()
        .when(vec![Compare::value("rs/a", CompareOp::Equal, "2")])
        .and_then(vec![TxnOp::delete("rs/", Some(DeleteOptions::new().with_prefix()))])
        .or_else(vec![TxnOp::get("rs/a", None)]);
    must(c.txn(txn).await?.succeeded(), "the comparison")?;
    must(c.get("rs/a", None).await?.count() == 0, "a deleted key")
}

async fn many_at_once(c: Client) -> Outcome {
    let mut tasks = Vec::new();
    for n in 0..50 {
        let mut c = c.clone();
        tasks.push(tokio::spawn(async move {
            for i in 0..20 {
                c.put(format!("rs/m/{n}"), i.to_string(), None).await?;
                let got = c.get(format!("rs/m/{n}"), None).await?;
                assert_eq!(got.kvs()[0].value_str()?, i.to_string());
            }
            Ok::<(), Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn leases_and_locks(mut c: Client) -> Outcome {
    let lease = c.lease_grant(30, None).await?.id();
    let (mut keeper, mut answers) = c.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    must(answers.message().await?.map(|a| a.ttl()) == Some(30), "the time to live")?;
    let lock = c.lock("rs/lock", Some(LockOptions::new().with_lease(lease))).await?;
    c.unlock(lock.key()).await?;
    let won = c.campaign("rs/election", "me", lease).await?;
    let leader = won.leader().ok_or("no leader")?.clone();
    must(c.leader("rs/election").await?.kv().map(|kv| kv.value()) == Some(b"me"), "the leader")?;
    c.resign(Some(ResignOptions::new().with_leader(leader))).await?;
    c.lease_revoke(lease).await?;
    Ok(())
}

async fn watches(mut c: Client) -> Outcome {
    let mut stream = c.watch("rs/w/", Some(WatchOptions::new().with_prefix().with_prev_key())).await?;
    c.put("rs/w/1", "a", None).await?;
    c.delete("rs/w/1", None).await?;
    let (mut seen, mut seen_id) = (Vec::new(), None);
    while seen.len() < 2 {
        let answer = timeout(WAIT, stream.message()).await??.ok_or("the watch ended")?;
        seen_id = Some(answer.watch_id());
        for event in answer.events() {
            seen.push((event.event_type(), event.kv().map(|kv| kv.value().to_vec())));
        }
    }
    must(seen == vec![(EventType::Put, Some(b"a".to_vec())), (EventType::Delete, Some(vec![]))], "the events")?;
    stream.request_progress().await?;
    must(timeout(WAIT, stream.message()).await??.is_some(), "the progress")?;
    let id = seen_id.ok_or("no id")?;
    stream.cancel(id).await?;
    Ok(())
}

async fn users(mut c: Client) -> Outcome {
    c.role_add("rs").await?;
    c.role_grant_permission("rs", Permission::read_write("rs/u/").with_prefix()).await?;
    c.user_add("rs", "pw", None).await?;
    c.user_grant_role("rs", "rs").await?;
    must(c.user_get("rs").await?.roles() == ["rs"], "the roles")?;
    c.user_delete("rs").await?;
    c.role_delete("rs").await?;
    Ok(())
}

async fn cluster(mut c: Client) -> Outcome {
    must(c.member_list().await?.members().len() == 3, "the members")?;
    c.status().await?;
    c.hash_kv(0).await?;
    let mut snapshot = c.snapshot().await?;
    let mut size = 0;
    while let Some(part) = snapshot.message().await? {
        size += part.blob().len();
    }
    must(size % 512 == 32, "the size of a snapshot")
}

/// Some of three members go, one after another.
async fn member_restarts(mut c: Client) -> Outcome {
    for member in 0..2 {
        order(&format!("KILL {member}"))?;
        let mut written = false;
        for _ in 0..300 {
            if let Ok(Ok(_)) = timeout(Duration::from_secs(2), c.put("rs/k", member.to_string(), None)).await {
                written = true;
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        order(&format!("START {member}"))?;
        must(written, "never written")?;
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome {
    let c = connect().await?;
    check("kv", kv(c.clone())).await;
    check("many at once", many_at_once(c.clone())).await;
    check("leases and locks", leases_and_locks(c.clone())).await;
    check("watches", watches(c.clone())).await;
    check("users", users(c.clone())).await;
    check("cluster", cluster(c.clone())).await;
    check("a member restarts", member_restarts(c.clone())).await;
    Ok(())
}
