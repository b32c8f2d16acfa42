//! The program's own `getrandom` must also be the one that libraries look up at run time; see `src/kernel.rs`.

fn main() {
    println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=getrandom");
}
