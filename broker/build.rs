//! Builds anew when a migration changes: they are embedded by a macro that the compiler doesn't watch.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
}
