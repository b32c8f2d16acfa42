//! Mutates seeds until the time is over, and keeps what makes a target do something it has not done before.
//!
//! There is no coverage to go by without a nightly compiler; what a target says of an input stands in for it.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The longest input that is tried.
const LONGEST: usize = 4096;
/// How many inputs are kept beside the seeds.
const MOST_KEPT: usize = 4096;

/// Runs `target` with the seeds of that name and what becomes of them. It panics on a mistake, and else says what it has
/// seen: a new word makes the input worth mutating further. `words`: what inputs are made of.
pub(super) fn run(name: &str, words: &[&str], target: impl Fn(&[u8]) -> String) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().map_or(1, |s| s.parse().expect("FUZZ_SECONDS is a number"));
    let chance = std::env::var("FUZZ_CHANCE").ok().map_or_else(rand::random, |s| s.parse().expect("a number"));
    let mut corpus = seeds(name);
    let mut seen = HashSet::new();
    for seed in &corpus {
        seen.insert(tried(name, chance, seed, &target));
    }
    let (mut rng, mut runs) = (StdRng::seed_from_u64(chance), 0_u64);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        for _ in 0..64 {
            let input = mutated(&corpus, words, &mut rng);
            let said = tried(name, chance, &input, &target);
            if seen.insert(said) && corpus.len() < MOST_KEPT {
                corpus.push(input);
            }
            runs += 1;
        }
    }
    println!("{name}: {runs} inputs, {} different outcomes, chance {chance}", seen.len());
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy/tests/fuzz/seeds").join(name);
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", dir.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// What the target says of an input; if it panics, the smallest input that still does so is told.
fn tried(name: &str, chance: u64, input: &[u8], target: &impl Fn(&[u8]) -> String) -> String {
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| target(input))).err();
    match catch_unwind(AssertUnwindSafe(|| target(input))) {
        Ok(said) => said,
        Err(_) => {
            let small = smallest(input, |input| fails(input).is_some());
            let why = fails(&small).map(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
            });
            panic!("{name} fails, chance {chance}, with b\"{}\": {}", small.escape_ascii(), why.unwrap_or_default())
        }
    }
}

/// Takes out whatever can be left out.
fn smallest(input: &[u8], fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut small = input.to_vec();
    let mut piece = small.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at + piece <= small.len() {
            let without = [&small[..at], &small[at + piece..]].concat();
            if fails(&without) { small = without } else { at += piece }
        }
        piece /= 2;
    }
    small
}

fn mutated(corpus: &[Vec<u8>], words: &[&str], rng: &mut StdRng) -> Vec<u8> {
    let mut input = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=input.len());
        let end = rng.random_range(at..=input.len().min(at + 40));
        let word = words[rng.random_range(0..words.len())].as_bytes();
        match rng.random_range(0..8) {
            0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            1 if at < input.len() => input[at] = rng.random(),
            2 => drop(input.drain(at..end)),
            3 => drop(input.splice(at..at, input[at..end].to_vec())),
            4 | 5 => drop(input.splice(at..at, word.iter().copied())),
            6 => drop(input.splice(at..end, word.iter().copied())),
            _ => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                let piece = other[from..rng.random_range(from..=other.len())].to_vec();
                input.splice(at..end, piece);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

#[test]
fn a_mistake_is_found_and_made_small() {
    let fragile = |input: &[u8]| {
        let bad = input.windows(6).any(|w| w == b"1.1\r\nH");
        assert!(!bad, "too much for me");
        String::new()
    };
    let input = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n";
    let failed = catch_unwind(|| tried("fragile", 7, input, &fragile)).unwrap_err();
    let told = failed.downcast_ref::<String>().unwrap();
    assert_eq!(told, r#"fragile fails, chance 7, with b"1.1\r\nH": too much for me"#);
    let found = catch_unwind(|| run("upgrade", &["\r\n"], fragile));
    assert!(found.is_err(), "the seeds have it");
}
