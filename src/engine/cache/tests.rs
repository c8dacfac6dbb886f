//! Entries come back as they were put, or not at all.

use std::path::PathBuf;

use super::{Cache, Key, KeyBuilder, Secret, Usage};

const LIMIT: u64 = 1 << 20;

fn key(name: &str) -> Key {
    KeyBuilder::new("test").with(name).finish()
}

fn secret(folder: &tempfile::TempDir) -> Secret {
    Secret::at(&folder.path().join("state/key")).unwrap()
}

fn folder() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("cache"), LIMIT, secret(&folder));
    (folder, cache)
}

fn file(cache: &Cache, name: &str) -> PathBuf {
    let hex = key(name).hex();
    cache.folder().join("tokens").join(&hex[..2]).join(hex)
}

#[test]
fn parts_of_a_key_are_kept_apart() {
    let of = |parts: &[&str]| parts.iter().fold(KeyBuilder::new("test"), KeyBuilder::with).finish();
    assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    assert_ne!(of(&["ab"]), of(&["ab", ""]));
    assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
}

#[test]
fn what_was_put_comes_back_and_the_folder_keeps_out_of_git() {
    let (_folder, cache) = folder();
    assert_eq!(cache.get("tokens", &key("a")), None);
    assert!(!cache.folder().exists(), "looking makes nothing");
    cache.put("tokens", &key("a"), b"first");
    cache.put("tokens", &key("b"), b"");
    cache.put("tokens", &key("a"), b"second");
    assert_eq!(cache.get("tokens", &key("a")).as_deref(), Some(&b"second"[..]));
    assert_eq!(cache.get("tokens", &key("b")).as_deref(), Some(&b""[..]));
    assert_eq!(cache.get("tokenizer", &key("a")), None);
    assert_eq!(std::fs::read_to_string(cache.folder().join(".gitignore")).unwrap(), "*\n");
    assert_eq!(cache.contents(), [("tokens".to_string(), Usage { entries: 2, bytes: 64 + 6 })].into());
    assert_eq!(cache.problem(), None);
}

#[test]
fn what_is_damaged_counts_as_absent_and_is_removed() {
    let (_folder, cache) = folder();
    let damages: [fn(&mut Vec<u8>); 4] =
        [|bytes| bytes[40] ^= 1, |bytes| bytes[3] ^= 128, |bytes| bytes.truncate(38), |bytes| bytes.truncate(5)];
    for damage in damages {
        cache.put("tokens", &key("a"), b"something of some length");
        let path = file(&cache, "a");
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(cache.get("tokens", &key("a")), None);
        assert!(!path.exists());
    }
    // A sound entry under another's name is none of its.
    cache.put("tokens", &key("a"), b"something");
    let other = file(&cache, "b");
    std::fs::create_dir_all(other.parent().unwrap()).unwrap();
    std::fs::copy(file(&cache, "a"), &other).unwrap();
    assert_eq!(cache.get("tokens", &key("b")), None);
    assert!(cache.get("tokens", &key("a")).is_some());
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path(), 1000, secret(&folder));
    let set = |name: &str, seconds: u64| {
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(file(&cache, name)).unwrap().set_modified(time).unwrap();
    };
    for (name, seconds) in [("old", 1), ("older", 2), ("young", 3)] {
        cache.put("tokens", &key(name), &[7; 268]);
        set(name, seconds);
    }
    // Each takes 300 bytes: the fourth goes past the limit. `old` was used since.
    assert!(cache.get("tokens", &key("old")).is_some());
    cache.put("tokens", &key("new"), &[7; 268]);
    let kept = ["old", "older", "young", "new"].map(|name| cache.get("tokens", &key(name)).is_some());
    assert_eq!(kept, [true, false, true, true]);
    assert_eq!(cache.clear().unwrap()["tokens"].entries, 3);
    assert!(cache.contents().is_empty());
}

#[test]
fn trouble_is_remembered_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "not a folder").unwrap();
    let cache = Cache::new(folder.path().join("file"), LIMIT, secret(&folder));
    cache.put("tokens", &key("a"), b"x");
    assert_eq!(cache.get("tokens", &key("a")), None);
    assert!(cache.problem().is_some_and(|problem| problem.contains("can't write")), "{:?}", cache.problem());
}

#[test]
fn writers_of_one_key_leave_one_whole_entry() {
    let (_folder, cache) = folder();
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let cache = &cache;
            scope.spawn(move || (0..50).for_each(|_| cache.put("tokens", &key("a"), &[writer; 5000])));
        }
        for _ in 0..200 {
            if let Some(bytes) = cache.get("tokens", &key("a")) {
                assert!(bytes.len() == 5000 && bytes.iter().all(|byte| *byte == bytes[0]));
            }
        }
    });
    assert_eq!(cache.problem(), None);
    assert_eq!(cache.contents()["tokens"].entries, 1);
}

/// A project from elsewhere may bring entries along: with the digests of another key, or with plain ones.
#[test]
fn what_others_made_counts_as_absent_and_is_removed() {
    let (folder, cache) = folder();
    let (own, other) = (secret(&folder), Secret::at(&folder.path().join("other")).unwrap());
    let theirs = Cache::new(cache.folder(), LIMIT, other);
    theirs.put("tokens", &key("a"), b"poisoned");
    assert_eq!(theirs.get("tokens", &key("a")).as_deref(), Some(&b"poisoned"[..]));
    assert_eq!(cache.get("tokens", &key("a")), None);
    assert!(!file(&cache, "a").exists());

    use sha2::{Digest, Sha256};
    let plain: [u8; 32] = Sha256::new().chain_update(key("a").bytes()).chain_update(b"poisoned").finalize().into();
    std::fs::write(file(&cache, "a"), [&plain[..], b"poisoned"].concat()).unwrap();
    assert_eq!(cache.get("tokens", &key("a")), None);

    cache.put("tokens", &key("a"), b"own");
    let again = Cache::new(cache.folder(), LIMIT, own);
    assert_eq!(again.get("tokens", &key("a")).as_deref(), Some(&b"own"[..]), "the key is kept");
}

#[cfg(unix)]
#[test]
fn the_key_is_made_once_and_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/nanochat/cache.key");
    let digests: Vec<_> = std::thread::scope(|scope| {
        let made: Vec<_> = (0..8).map(|_| scope.spawn(|| Secret::at(&path).unwrap().digest([b"a", b"b"]))).collect();
        made.into_iter().map(|made| made.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]), "all took the first one's");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    std::fs::write(&path, "short").unwrap();
    assert!(Secret::at(&path).is_err());
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(Secret::at(&path).is_err());
}
