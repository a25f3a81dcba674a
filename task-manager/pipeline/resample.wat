;; The two passes of Pillow's resampling of 8-bit samples, in its fixed point: weights have 22 fraction bits, sums
;; start at one half, and each pass is rounded down and clipped to 0..255. In WebAssembly because 4 samples at a time
;; cost half of what the same loops cost in JavaScript. `node scripts/build-resample.mjs` turns it into resample-wasm.ts.
;;
;; All addresses are bytes. Weights and starts are 32-bit integers. Reads go up to 3 bytes past a row, stores up to
;; 15 past the last sample: whoever lays out the memory leaves room.
(module
  (memory (export "memory") 1)

  ;; One row. Output pixel x is the sum of $taps pixels from starts[x] on, times weights[x * taps ...].
  ;; A pixel has $channels (1 or 3) samples; the 4 lanes hold those of one pixel, and lanes past them are noise that
  ;; the next pixel's store overwrites.
  (func (export "horizontal")
    (param $row i32) (param $starts i32) (param $weights i32) (param $taps i32) (param $count i32)
    (param $channels i32) (param $out i32)
    (local $sum v128) (local $pixel i32) (local $end i32) (local $starts_end i32)
    (local.set $starts_end (i32.add (local.get $starts) (i32.shl (local.get $count) (i32.const 2))))
    (block $done
      (loop $next_pixel
        (br_if $done (i32.ge_u (local.get $starts) (local.get $starts_end)))
        (local.set $pixel (i32.add (local.get $row) (i32.mul (i32.load (local.get $starts)) (local.get $channels))))
        (local.set $end (i32.add (local.get $weights) (i32.shl (local.get $taps) (i32.const 2))))
        (local.set $sum (i32x4.splat (i32.const 0x200000)))
        (loop $next_tap
          (local.set $sum
            (i32x4.add
              (local.get $sum)
              (i32x4.mul
                (i32x4.extend_low_i16x8_u (i16x8.extend_low_i8x16_u (v128.load32_zero (local.get $pixel))))
                (v128.load32_splat (local.get $weights)))))
          (local.set $pixel (i32.add (local.get $pixel) (local.get $channels)))
          (local.set $weights (i32.add (local.get $weights) (i32.const 4)))
          (br_if $next_tap (i32.lt_u (local.get $weights) (local.get $end))))
        (local.set $sum (i32x4.shr_s (local.get $sum) (i32.const 22)))
        (local.set $sum (i16x8.narrow_i32x4_s (local.get $sum) (local.get $sum)))
        (i32.store
          (local.get $out)
          (i32x4.extract_lane 0 (i8x16.narrow_i16x8_u (local.get $sum) (local.get $sum))))
        (local.set $out (i32.add (local.get $out) (local.get $channels)))
        (local.set $starts (i32.add (local.get $starts) (i32.const 4)))
        (br $next_pixel))))

  ;; One row from $taps rows. They lie in a ring of $taps slots of $slot_bytes (a multiple of 16), the first of them
  ;; in slot $first.
  (func (export "vertical")
    (param $ring i32) (param $slot_bytes i32) (param $first i32) (param $weights i32) (param $taps i32)
    (param $bytes i32) (param $out i32)
    (local $x i32) (local $slot i32) (local $ring_end i32) (local $weight i32) (local $weights_end i32)
    (local $factor v128) (local $samples v128) (local $half v128)
    (local $sum0 v128) (local $sum1 v128) (local $sum2 v128) (local $sum3 v128)
    (local.set $ring_end (i32.add (local.get $ring) (i32.mul (local.get $taps) (local.get $slot_bytes))))
    (local.set $first (i32.add (local.get $ring) (i32.mul (local.get $first) (local.get $slot_bytes))))
    (local.set $weights_end (i32.add (local.get $weights) (i32.shl (local.get $taps) (i32.const 2))))
    (loop $next_samples
      (local.set $sum0 (i32x4.splat (i32.const 0x200000)))
      (local.set $sum1 (local.get $sum0))
      (local.set $sum2 (local.get $sum0))
      (local.set $sum3 (local.get $sum0))
      (local.set $slot (local.get $first))
      (local.set $weight (local.get $weights))
      (loop $next_tap
        (local.set $factor (v128.load32_splat (local.get $weight)))
        (local.set $samples (v128.load (i32.add (local.get $slot) (local.get $x))))
        (local.set $half (i16x8.extend_low_i8x16_u (local.get $samples)))
        (local.set $sum0
          (i32x4.add (local.get $sum0) (i32x4.mul (i32x4.extend_low_i16x8_u (local.get $half)) (local.get $factor))))
        (local.set $sum1
          (i32x4.add (local.get $sum1) (i32x4.mul (i32x4.extend_high_i16x8_u (local.get $half)) (local.get $factor))))
        (local.set $half (i16x8.extend_high_i8x16_u (local.get $samples)))
        (local.set $sum2
          (i32x4.add (local.get $sum2) (i32x4.mul (i32x4.extend_low_i16x8_u (local.get $half)) (local.get $factor))))
        (local.set $sum3
          (i32x4.add (local.get $sum3) (i32x4.mul (i32x4.extend_high_i16x8_u (local.get $half)) (local.get $factor))))
        (local.set $slot (i32.add (local.get $slot) (local.get $slot_bytes)))
        (if (i32.eq (local.get $slot) (local.get $ring_end)) (then (local.set $slot (local.get $ring))))
        (local.set $weight (i32.add (local.get $weight) (i32.const 4)))
        (br_if $next_tap (i32.lt_u (local.get $weight) (local.get $weights_end))))
      (v128.store
        (i32.add (local.get $out) (local.get $x))
        (i8x16.narrow_i16x8_u
          (i16x8.narrow_i32x4_s
            (i32x4.shr_s (local.get $sum0) (i32.const 22)) (i32x4.shr_s (local.get $sum1) (i32.const 22)))
          (i16x8.narrow_i32x4_s
            (i32x4.shr_s (local.get $sum2) (i32.const 22)) (i32x4.shr_s (local.get $sum3) (i32.const 22)))))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $next_samples (i32.lt_u (local.get $x) (local.get $bytes))))))
