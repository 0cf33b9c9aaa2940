//! Operations on Mesa's software renderer. That they are right is what [`super::proof`] shows of each before its first use.

use std::sync::Arc;

use super::{Function, Tensors, Walk, Width, proof::prove, text::Kind};
use crate::{
    device::Precision,
    devices::gpu::{card::Adapter, guarded::Host, tests::lavapipe},
    error::NnError,
};

/// The software renderer, with kernels of another text.
fn tensors(text: fn(&Kind) -> String, memory: Option<u64>) -> Tensors {
    lavapipe::load();
    let adapter =
        Adapter::all().into_iter().find(|adapter| adapter.is.is_called("llvmpipe")).expect("it was just loaded");
    let host = Host::open(adapter, memory, Precision::Auto, None, Arc::default()).expect("it opens");
    Tensors { text, ..Tensors::new(host.engine().expect("it is open"), prove) }
}

#[test]
fn a_kernel_on_tensors_that_computes_something_else_is_not_used() {
    let on = tensors(|kind| kind.text().replace("-1.702", "-1.6"), None);
    let x = on.upload([1, 1, 1, 4], &[1.0; 4], Width::Half).expect("an upload");
    let Err(NnError::Device(why)) = on.activate(&x, Function::Silu) else { panic!("it is not what is asked for") };
    assert!(why.contains("self-test"), "{why}");
    on.double(&x).expect("the others are used");
}

#[test]
fn tensors_stay_within_the_budget_and_a_lost_card_says_so() {
    let on = tensors(Kind::text, Some(8 << 20));
    let x = on.upload([1, 1024, 1024, 1], &vec![0.5; 1 << 20], Width::Half);
    let Err(NnError::DeviceMemory { needed, budget }) = x.and_then(|x| on.double(&x)) else { panic!("it is too much") };
    assert!(budget == 8 << 20 && needed > budget);
    // Each is given back, and used again.
    let mut x = on.upload([1, 64, 64, 64], &vec![0.5; 64 * 64 * 64], Width::Half).expect("half a megabyte");
    for _ in 0..20 {
        x = on.add(&x, &x, -1.0).expect("there is room");
    }
    assert!(on.peak() <= 8 << 20 && on.download(&x).expect("it is done").iter().all(|&v| v == 0.0));
    on.lose();
    let gone = on.add(&x, &x, 1.0).and_then(|x| on.download(&x));
    assert!(matches!(gone, Err(NnError::Device(_))), "{:?}", gone.err());
}

#[test]
fn work_for_many_groups_is_cut_into_pieces() {
    let on = tensors(Kind::text, None);
    // More groups than a card need run at once, and more operations than it does in the time of a submission.
    let values: Vec<f32> = (0..1 << 23).map(|at| (at % 1999) as f32).collect();
    let x = on.upload([1, 1024, 2048, 4], &values, Width::Half).expect("there is room");
    let sum = on.add(&x, &x, 1.0).and_then(|sum| on.download(&sum)).expect("it is done");
    assert!(sum.iter().zip(&values).all(|(sum, value)| *sum == 2.0 * value));
    let filters = on.filters([64, 64, 3], Width::Half, &|_, to| to.fill(0.125), None).expect("weights");
    let x = on.upload([1, 160, 80, 64], &vec![1.0; 160 * 80 * 64], Width::Half).expect("there is room");
    let sums = on.conv(&x, &filters, Walk::around(3), None).and_then(|sums| on.download(&sums)).expect("it is done");
    let taps = |at: usize, last: usize| if at == 0 || at == last { 2.0 } else { 3.0 };
    let expected = |at: usize| 8.0 * taps(at / 64 % 80, 79) * taps(at / 64 / 80, 159);
    assert!(sums.iter().enumerate().all(|(at, &sum)| sum == expected(at)));
}
