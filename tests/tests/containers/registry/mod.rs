//! Images from a registry that wants a login: what is asked of it, when, and what is said when it refuses.

pub(crate) mod door;
pub(crate) mod shop;

use laminar_tests::world::finish;

use self::door::Request;
use self::shop::Shop;
use crate::on_each_engine;
use crate::world::World;

on_each_engine!(
    each_image_is_pulled_once_and_all_at_the_same_time,
    without_a_login_nothing_runs_and_the_message_says_what_to_do,
    an_image_that_the_registry_does_not_have_is_told_before_anything_runs,
    images_are_pulled_when_the_flow_says,
    a_tag_that_moves_meanwhile_changes_nothing,
    a_digest_names_an_image_for_good,
);

/// How often manifests of a repository were given out, and configurations of images.
pub(crate) fn given(requests: &[Request], name: &str) -> (usize, usize) {
    let repository = name.split_once('/').unwrap().1.split([':', '@']).next().unwrap();
    let of = |kind: &str| {
        let path = format!("/v2/{repository}/{kind}/");
        let given = |it: &&Request| it.method == "GET" && it.path.starts_with(&path) && it.status < 400;
        requests.iter().filter(given).map(|it| it.path.clone()).collect::<Vec<_>>()
    };
    let blobs = of("blobs");
    let once: std::collections::BTreeSet<_> = blobs.iter().collect();
    assert_eq!(once.len(), blobs.len(), "no blob is fetched twice: {blobs:?}");
    (of("manifests").len(), blobs.len())
}

fn each_image_is_pulled_once_and_all_at_the_same_time(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let names = ["one", "two", "three"].map(|image| shop.name(image));
    let words = ["uno", "due", "tre"];
    names.iter().zip(words).for_each(|(name, word)| drop(shop.stock(&format!("{name}:1"), word)));
    let mut layers = "defaults: { container: { network: none } }\nlayers:\n".to_owned();
    for at in 0..9 {
        layers.push_str(&format!(
            "  L{at}: {{ run: 'echo $WORD', container: {{ image: '{}:1' }} }}\n",
            names[at % names.len()]
        ));
    }
    shop.stage.flow(&layers);
    shop.door.hold_until(names.len());
    shop.run().exits(0);
    assert!(shop.door.all_met(), "one image was waited for before the next was asked for");
    (0..9).for_each(|at| assert_eq!(shop.stage.said(&format!("L{at}")), format!("{}\n", words[at % words.len()])));
    let requests = shop.door.take();
    for name in &names {
        let (manifests, blobs) = given(&requests, name);
        assert!(manifests == 1 && blobs >= 1, "{manifests} manifests, {blobs} blobs: {requests:?}");
    }
    // What is there is asked for no more.
    shop.run().exits(0);
    assert_eq!(shop.door.take(), []);
}

fn without_a_login_nothing_runs_and_the_message_says_what_to_do(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let name = format!("{}:1", shop.name("closed"));
    shop.stock(&name, "word");
    shop.log_out();
    shop.stage.flow(&format!(
        "layers:\n  Free: {{ run: echo free, container: {{ image: IMAGE }} }}\n  Closed: {{ run: echo $WORD, container: {{ image: '{name}' }} }}\n"
    ));
    let login = format!("log in first: `{} login {}`", world.dialect.program, shop.door.address);
    let refused = shop.run().exits(3).says(&[&format!("pull the image `{name}`"), &login]);
    assert!(!refused.stderr.contains("panic"), "{}", refused.stderr);
    assert!(!shop.has(&name));
    assert!(world.containers().is_empty(), "nothing was started");
    // The same once more with a login.
    shop.log_in();
    shop.run().exits(0);
    assert_eq!(shop.stage.said("Closed"), "word\n");
}

fn an_image_that_the_registry_does_not_have_is_told_before_anything_runs(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let name = format!("{}:1", shop.name("nowhere"));
    shop.stage.flow(&format!(
        "layers:\n  Free: {{ run: echo free, container: {{ image: IMAGE }} }}\n  Nowhere: {{ run: echo $WORD, container: {{ image: '{name}' }} }}\n"
    ));
    let _ = shop.run().exits(3).says(&[&format!("pull the image `{name}`"), "the registry has no such image"]);
    assert!(world.containers().is_empty(), "nothing was started");
    // A registry that is not there at all.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    shop.stage.flow(&format!("layers:\n  Gone: {{ run: 'true', container: {{ image: '{gone}/x:1' }} }}\n"));
    let _ = shop.run().exits(3).says(&[&format!("pull the image `{gone}/x:1`"), &format!("{gone} does not answer")]);
}

fn images_are_pulled_when_the_flow_says(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let name = format!("{}:1", shop.name("policy"));
    let flow = |pull: &str| {
        shop.stage.flow(&format!(
            "layers:\n  A: {{ run: echo $WORD, container: {{ image: '{name}', pull: {pull}, network: none }} }}\n"
        ));
    };
    shop.stock(&name, "old");
    flow("never");
    let _ = shop.run().exits(2).says(&[&name, "`container.pull` is `never`"]);
    assert_eq!(shop.door.take(), [], "the registry was not asked");
    flow("missing");
    shop.run().exits(0);
    assert_eq!(given(&shop.door.take(), &name).0, 1);
    flow("never");
    shop.run().exits(0);
    // The registry's is another one by now.
    let kept = format!("{}:kept", shop.name("policy"));
    shop.engine(&["tag", &name, &kept]);
    shop.stock(&name, "new");
    shop.engine(&["tag", &kept, &name]);
    for pull in ["never", "missing"] {
        flow(pull);
        shop.run().exits(0);
        assert_eq!(shop.stage.said("A"), "old\n", "{pull}");
    }
    assert_eq!(shop.door.take(), []);
    flow("always");
    shop.run().exits(0);
    assert_eq!(shop.stage.said("A"), "new\n");
    shop.door.take();
    shop.run().exits(0);
    assert!(!shop.door.take().is_empty(), "also when it has not changed");
}

fn a_tag_that_moves_meanwhile_changes_nothing(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let name = format!("{}:1", shop.name("moving"));
    let old = shop.stock(&name, "old");
    let tree = shop.stage.program.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    shop.stage.flow(&format!(
        "defaults: {{ container: {{ image: '{name}', pull: always, network: none, mounts: ['./tree:/tree'] }} }}
layers:
  First: {{ run: 'echo $WORD; touch /tree/on; while [ ! -e /tree/go ]; do sleep 0.05; done' }}
  Second: {{ needs: [First], run: echo $WORD }}
"
    ));
    let child = shop.stage.start(&["run"]);
    laminar_tests::world::eventually("the first layer runs", || tree.join("on").exists().then_some(()));
    // Both the registry's tag and the engine's own move.
    shop.make(&name, "new");
    shop.engine(&["push", &name]);
    std::fs::write(tree.join("go"), "").unwrap();
    finish(child).exits(0);
    assert_eq!((shop.stage.said("First"), shop.stage.said("Second")), ("old\n".to_owned(), "old\n".to_owned()));
    shop.run().exits(0);
    assert_eq!(shop.stage.said("Second"), "new\n", "the next execution has the new one");
    let name = format!("{}@{old}", shop.name("moving"));
    shop.stage.flow(&format!("layers:\n  A: {{ run: echo $WORD, container: {{ image: '{name}' }} }}\n"));
    shop.run().exits(0);
    assert_eq!(shop.stage.said("A"), "old\n", "and its digest still names the old one");
}

fn a_digest_names_an_image_for_good(world: &World) {
    let Some(shop) = Shop::open(world) else { return };
    let tag = format!("{}:1", shop.name("digest"));
    let digest = shop.stock(&tag, "word");
    shop.stock(&tag, "other");
    let name = format!("{}@{digest}", shop.name("digest"));
    shop.stage.flow(&format!("layers:\n  A: {{ run: echo $WORD, container: {{ image: '{name}', network: none }} }}\n"));
    shop.door.take();
    shop.run().exits(0);
    assert_eq!(shop.stage.said("A"), "word\n");
    assert_eq!(given(&shop.door.take(), &name).0, 1);
    shop.run().exits(0);
    assert_eq!(shop.door.take(), [], "it is there");
}
