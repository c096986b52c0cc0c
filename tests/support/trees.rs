//! Random trees on disk, from a seed, random changes to them, and pictures of them to compare.
//!
//! Everything is dated years ago, so that fingerprints are not young (rule 13): two changes of one file in one test get
//! different times.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// 2020-09-13, in seconds since 1970: the oldest a built file is.
const OLDEST_S: u64 = 1_600_000_000;
/// How many seconds the built files spread over; changes come after.
const SPREAD_S: u64 = 1_000_000;

/// How a random tree looks.
#[derive(Debug, Clone)]
pub struct TreeShape {
    /// How many files.
    pub files: usize,
    /// How many folders a file lies below, at most.
    pub max_depth: usize,
    /// Sizes that files have, drawn evenly.
    pub sizes: Vec<u64>,
    /// Names with spaces, newlines, quotes, percent signs, high bytes; bytes that are not UTF-8 too with `raw_names`.
    pub odd_names: bool,
    /// Names that are not UTF-8 (for stores that hold them).
    pub raw_names: bool,
}

impl Default for TreeShape {
    fn default() -> Self {
        Self { files: 60, max_depth: 4, sizes: boundary_sizes(8 << 10), odd_names: true, raw_names: false }
    }
}

/// Sizes around the limits of hashing and of chunks of `chunk_bytes`.
pub fn boundary_sizes(chunk_bytes: u64) -> Vec<u64> {
    let chunk = chunk_bytes;
    vec![0, 1, 17, 1023, 1024, 1025, chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 17]
}

/// A file, folder or link in a [`snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `file`, `folder`, `link` or `special`.
    pub kind: &'static str,
    /// BLAKE3 of a file's bytes or of a link's target, in hexadecimal; empty for others.
    pub hash: String,
    /// Permission bits (0 for links).
    pub mode: u32,
    /// Nanoseconds since 1970 (0 for folders: they change with what they hold).
    pub mtime_ns: i64,
}

/// A tree on disk that is built and changed by seeded dice.
#[derive(Debug)]
pub struct RandomTree {
    root: PathBuf,
    shape: TreeShape,
    seed: u64,
    dice: StdRng,
    clock_s: u64,
}

/// What [`RandomTree::mutate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// A new file.
    Added(Vec<u8>),
    /// Other bytes under the same name.
    Changed(Vec<u8>),
    /// Gone, with the folders that became empty.
    Deleted(Vec<u8>),
    /// The same file under another name.
    Renamed(Vec<u8>, Vec<u8>),
    /// The same bytes, another time.
    Touched(Vec<u8>),
}

impl RandomTree {
    /// Fills `root` (created if missing) with a tree.
    pub fn build(root: impl Into<PathBuf>, seed: u64, shape: TreeShape) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        let mut tree = Self { root: root.into(), shape, seed, dice, clock_s: OLDEST_S };
        fs::create_dir_all(&tree.root).unwrap();
        while tree.keys().len() < tree.shape.files {
            tree.add();
        }
        tree.clock_s = OLDEST_S + SPREAD_S;
        tree
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The seed, for messages.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The keys of all files, sorted as bytes.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let files = snapshot(&self.root).into_iter().filter(|(_, node)| node.kind == "file");
        files.map(|(key, _)| key).collect()
    }

    /// Makes `changes` random changes, and tells them in order.
    pub fn mutate(&mut self, changes: usize) -> Vec<Mutation> {
        (0..changes).map(|_| self.mutate_once()).collect()
    }

    fn mutate_once(&mut self) -> Mutation {
        let keys = self.keys();
        if keys.is_empty() {
            return self.add();
        }
        let key = keys[self.dice.random_range(0..keys.len())].clone();
        match self.dice.random_range(0..5) {
            0 => self.add(),
            1 => {
                let before = fs::read(path_of(&self.root, &key)).unwrap();
                let mut body = match self.dice.random_bool(0.5) {
                    true => before.clone(),
                    false => self.body(),
                };
                match body.first_mut() {
                    Some(byte) => *byte = byte.wrapping_add(1),
                    None => body.push(b'x'),
                }
                self.write(&key, &body);
                Mutation::Changed(key)
            }
            2 => {
                self.remove(&key);
                Mutation::Deleted(key)
            }
            3 => {
                let to = self.new_key();
                let target = path_of(&self.root, &to);
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::rename(path_of(&self.root, &key), target).unwrap();
                self.prune_above(&key);
                Mutation::Renamed(key, to)
            }
            _ => {
                self.date(&path_of(&self.root, &key));
                Mutation::Touched(key)
            }
        }
    }

    /// Writes one file, dated after all earlier ones.
    pub fn write(&mut self, key: &[u8], body: &[u8]) {
        let path = path_of(&self.root, key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, body).unwrap();
        self.date(&path);
    }

    /// Removes one file and the folders that become empty.
    pub fn remove(&mut self, key: &[u8]) {
        fs::remove_file(path_of(&self.root, key)).unwrap();
        self.prune_above(key);
    }

    fn prune_above(&self, key: &[u8]) {
        let path = path_of(&self.root, key);
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }

    fn add(&mut self) -> Mutation {
        let (key, body) = (self.new_key(), self.body());
        self.write(&key, &body);
        let mode = [0o644, 0o600, 0o755, 0o664][self.dice.random_range(0..4)];
        fs::set_permissions(path_of(&self.root, &key), fs::Permissions::from_mode(mode)).unwrap();
        Mutation::Added(key)
    }

    fn body(&mut self) -> Vec<u8> {
        let size = self.shape.sizes[self.dice.random_range(0..self.shape.sizes.len())];
        let mut body = vec![0; usize::try_from(size).unwrap()];
        self.dice.fill(&mut body[..]);
        body
    }

    /// A key that is free and whose folders are no files.
    fn new_key(&mut self) -> Vec<u8> {
        let nodes = snapshot(&self.root);
        loop {
            let depth = self.dice.random_range(0..=self.shape.max_depth);
            let segments: Vec<Vec<u8>> = (0..=depth).map(|level| self.name(level < depth)).collect();
            let key = segments.join(&b'/');
            let above: BTreeSet<Vec<u8>> = (1..segments.len()).map(|n| segments[..n].join(&b'/')).collect();
            let blocked = above.iter().any(|folder| nodes.get(folder).is_some_and(|node| node.kind != "folder"));
            if !blocked && !nodes.contains_key(&key) {
                return key;
            }
        }
    }

    fn name(&mut self, folder: bool) -> Vec<u8> {
        const ODD: [&str; 10] = [
            "a b",
            "p%20q",
            "plus+",
            "new\nline",
            "q'u\"o",
            "\u{f6}\u{e4}",
            "#hash",
            "semi;colon",
            "back\\slash",
            "\u{1f600}",
        ];
        let number = self.dice.random_range(0..if folder { 6 } else { 1000 });
        let mut name = match (self.shape.odd_names && self.dice.random_bool(0.3), self.shape.raw_names) {
            (true, true) if self.dice.random_bool(0.3) => b"raw\xff\xfe".to_vec(),
            (true, _) => ODD[self.dice.random_range(0..ODD.len())].as_bytes().to_vec(),
            // Names that sort around the slash are where walks go wrong.
            (false, _) => ["f", "f-", "f.", "f0"][self.dice.random_range(0..4)].as_bytes().to_vec(),
        };
        if !folder || number > 2 {
            name.extend_from_slice(number.to_string().as_bytes());
        }
        name
    }

    fn date(&mut self, path: &Path) {
        self.clock_s += 1;
        let nanoseconds = self.dice.random_range(0..1_000_000_000);
        set_mtime(path, UNIX_EPOCH + Duration::new(self.clock_s, nanoseconds));
    }
}

/// Sets a file's modification time.
pub fn set_mtime(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Dates every file below `root` to 2020, so that none of them is young.
pub fn age(root: &Path) {
    for (key, node) in snapshot(root) {
        if node.kind == "file" {
            set_mtime(&path_of(root, &key), UNIX_EPOCH + Duration::from_secs(OLDEST_S));
        }
    }
}

/// The path of a key below a root.
pub fn path_of(root: &Path, key: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(key))
}

/// All that stands below `root`, by key; empty when it does not exist.
pub fn snapshot(root: &Path) -> BTreeMap<Vec<u8>, Node> {
    let mut nodes = BTreeMap::new();
    if root.exists() {
        picture(root, &[], &mut nodes);
    }
    nodes
}

/// As [`snapshot`], without folders and times: what a copy through a store must keep at least.
pub fn contents(root: &Path) -> BTreeMap<Vec<u8>, (&'static str, String)> {
    let files = snapshot(root).into_iter().filter(|(_, node)| node.kind != "folder");
    files.map(|(key, node)| (key, (node.kind, node.hash))).collect()
}

fn picture(folder: &Path, prefix: &[u8], nodes: &mut BTreeMap<Vec<u8>, Node>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut key = prefix.to_vec();
        key.extend_from_slice(path.file_name().unwrap().as_bytes());
        let metadata = fs::symlink_metadata(&path).unwrap();
        let file_type = metadata.file_type();
        let mtime_ns = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
        let (mode, hash) = (metadata.mode() & 0o7777, |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string());
        let node = if file_type.is_dir() {
            let below = [&key[..], b"/"].concat();
            picture(&path, &below, nodes);
            Node { kind: "folder", hash: String::new(), mode, mtime_ns: 0 }
        } else if file_type.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            Node { kind: "link", hash: hash(target.as_os_str().as_bytes()), mode: 0, mtime_ns }
        } else if file_type.is_file() {
            Node { kind: "file", hash: hash(&fs::read(&path).unwrap()), mode, mtime_ns }
        } else {
            Node { kind: "special", hash: String::new(), mode, mtime_ns }
        };
        nodes.insert(key, node);
    }
}
