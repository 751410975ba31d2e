//! Lists of limited length.

use heapless::Vec;

/// Collects into a list; what does not fit is left out. heapless's own `collect` panics there, and
/// the compiler cannot see that it never comes to that.
pub(crate) fn collect<T, const N: usize>(items: impl IntoIterator<Item = T>) -> Vec<T, N> {
    let mut list = Vec::new();
    for item in items {
        if list.push(item).is_err() {
            break;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_does_not_fit_is_left_out() {
        assert_eq!(super::collect::<u8, 3>(0..9), [0, 1, 2]);
        assert_eq!(super::collect::<u8, 3>(0..2), [0, 1]);
    }
}
