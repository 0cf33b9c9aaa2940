//! The one-dimensional transforms of F(4, 3); applied to columns, then to rows.

use crate::kernels::vector::Vector;

/// Three weights to six points.
///
/// # Safety
/// As for [`Vector`], here and below.
#[inline(always)]
pub unsafe fn filter_line<V: Vector>([a, b, c]: [V; 3]) -> [V; 6] {
    // SAFETY: the caller has the instructions, here and below.
    unsafe {
        let even = a.add(c).mul(V::splat(-1.0 / 6.0));
        let odd = b.mul(V::splat(1.0 / 6.0));
        let far_even = a.mul(V::splat(1.0 / 24.0)).fma(c, V::splat(1.0 / 6.0));
        let far_odd = b.mul(V::splat(1.0 / 12.0));
        [a.mul(V::splat(0.25)), even.sub(odd), even.add(odd), far_even.add(far_odd), far_even.sub(far_odd), c]
    }
}

/// Six inputs to six points.
#[inline(always)]
pub unsafe fn input_line<V: Vector>(d: [V; 6]) -> [V; 6] {
    // SAFETY: as above.
    unsafe {
        let (two, four, minus_four, minus_five) = (V::splat(2.0), V::splat(4.0), V::splat(-4.0), V::splat(-5.0));
        let even = d[4].fma(d[2], minus_four);
        let odd = d[3].fma(d[1], minus_four);
        let far_even = d[4].sub(d[2]);
        let far_odd = d[3].sub(d[1]).mul(two);
        [
            d[4].fma(d[2], minus_five).fma(d[0], four),
            even.add(odd),
            even.sub(odd),
            far_even.add(far_odd),
            far_even.sub(far_odd),
            d[5].fma(d[3], minus_five).fma(d[1], four),
        ]
    }
}

/// Six products to four outputs.
#[inline(always)]
pub unsafe fn output_line<V: Vector>(m: [V; 6]) -> [V; 4] {
    // SAFETY: as above.
    unsafe {
        let (even, odd) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (far_even, far_odd) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(even).add(far_even),
            odd.fma(far_odd, V::splat(2.0)),
            even.fma(far_even, V::splat(4.0)),
            odd.fma(far_odd, V::splat(8.0)).add(m[5]),
        ]
    }
}
