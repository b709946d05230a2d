// Activation-sparse multiplications on a CPU: C ABI, one thread, no library but the C++ standard.
//
// What is fast here, in the order of importance:
//  - weights of skipped channels are never touched;
//  - eight active channels per pass over the outputs, so that the sums are loaded and stored once
//    for eight rows of weights;
//  - rows of weights are prefetched by software, a little ahead in the row and, at its end, at the
//    beginning of a row of the next pass: the hardware does not know where that is;
//  - int4: a block of bytes is loaded once as 32-bit words, and each of the eight nibbles of a word
//    becomes a number in place.  The sums lie in that order of nibbles and are sorted once, at the end.
// Vectors are GCC's and Clang's own (`vector_size`), as wide as the machine's registers.
// Sums are float32, over channels in ascending order by eights; every result depends on its operands
// alone.  Compiled without -ffast-math: an activation that is NaN is active.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>
#if defined(__AVX512F__) || defined(__F16C__)
#include <immintrin.h>
#endif

namespace {

using Index = std::int64_t;

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int kLanes = kBytes / 4;  // float32 numbers in a vector
constexpr int kPass = 8;            // active channels in a pass
constexpr int kAhead = 1024;        // bytes that a prefetch runs ahead

typedef float Floats __attribute__((vector_size(kBytes)));
typedef std::int32_t Ints __attribute__((vector_size(kBytes)));
typedef std::uint32_t Words __attribute__((vector_size(kBytes)));
typedef std::uint16_t Shorts __attribute__((vector_size(kBytes / 2)));
typedef std::int16_t SignedShorts __attribute__((vector_size(kBytes / 2)));
typedef std::int8_t Bytes __attribute__((vector_size(kBytes / 4)));

struct Bfloat16 { std::uint16_t bits; };
struct Float16 { std::uint16_t bits; };

template <class V> V load(const void* from) {
    V vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

void store(float* to, Floats vector) { std::memcpy(to, &vector, sizeof vector); }

Floats spread(float value) { return value - Floats{}; }

// Numbers to float32, all exact: one, and as many as fill a vector.

float widen(float value) { return value; }
float widen(std::int8_t value) { return value; }
float widen(Bfloat16 value) {
    std::uint32_t word = std::uint32_t(value.bits) << 16;
    float result;
    std::memcpy(&result, &word, 4);
    return result;
}
float widen(Float16 value) {
    std::uint32_t sign = std::uint32_t(value.bits & 0x8000) << 16, rest = value.bits & 0x7fff, word;
    if (rest >= 0x7c00) {  // infinity or NaN
        word = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    } else {  // scaling by 2^112 moves the exponent's bias and makes subnormal numbers normal
        std::uint32_t shifted = rest << 13;
        float scaled;
        std::memcpy(&scaled, &shifted, 4);
        scaled *= 0x1p112f;
        std::memcpy(&word, &scaled, 4);
        word |= sign;
    }
    float result;
    std::memcpy(&result, &word, 4);
    return result;
}

Floats fill(const float* from) { return load<Floats>(from); }
Floats fill(const std::int8_t* from) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else  // in steps: GCC 12 takes one step from 8 to 32 bits number by number
    SignedShorts shorts = __builtin_convertvector(load<Bytes>(from), SignedShorts);
    return __builtin_convertvector(__builtin_convertvector(shorts, Ints), Floats);
#endif
}
Floats fill(const Bfloat16* from) {
    Words words = __builtin_convertvector(load<Shorts>(from), Words) << 16;
    return (Floats)words;
}
Floats fill(const Float16* from) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX2__) && defined(__F16C__)
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
    Floats result{};
    for (int i = 0; i < kLanes; ++i) result[i] = widen(from[i]);
    return result;
#endif
}

// float32 to a dtype, to nearest, ties to even.

void narrow(float value, float& to) { to = value; }
void narrow(float value, Bfloat16& to) {
    std::uint32_t word;
    std::memcpy(&word, &value, 4);
    to.bits = std::isnan(value) ? 0x7fc0 : (word + 0x7fff + (word >> 16 & 1)) >> 16;
}
void narrow(float value, Float16& to) {
    std::uint32_t word;
    std::memcpy(&word, &value, 4);
    std::uint32_t sign = word >> 16 & 0x8000, rest = word & 0x7fffffff;
    if (rest > 0x7f800000) {
        to.bits = 0x7e00;
    } else if (rest >= 0x477ff000) {  // rounds to 65536 or more
        to.bits = sign | 0x7c00;
    } else if (rest < 0x38800000) {  // subnormal: adding 0.5 aligns its last bit with float32's
        float magnitude;
        std::memcpy(&magnitude, &rest, 4);
        magnitude += 0.5f;
        std::memcpy(&rest, &magnitude, 4);
        to.bits = sign | (rest - 0x3f000000);
    } else {
        to.bits = sign | (rest + 0xfff + (rest >> 13 & 1) - 0x38000000) >> 13;
    }
}

// result = sums + bias (none if null), rounded.
template <class T> void round(const float* sums, Index count, const T* bias, T* result) {
    for (Index n = 0; n < count; ++n) {
        narrow(bias == nullptr ? sums[n] : sums[n] + widen(bias[n]), result[n]);
    }
}

template <class T>
void round_rows(const float* sums, Index rows, Index outputs, const T* bias, T* result) {
    for (Index r = 0; r < rows; ++r) round(sums + r * outputs, outputs, bias, result + r * outputs);
}

struct Free {
    void operator()(float* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<float[], Free>;

// Zeros, aligned to cache lines.
Buffer zeros(Index count) {
    std::size_t size = (count * 4 + 127) / 64 * 64;
    void* memory = std::aligned_alloc(64, size);
    if (memory == nullptr) std::abort();
    std::memset(memory, 0, size);
    return Buffer(static_cast<float*>(memory));
}

// An active channel of a row and what it is multiplied with.
struct Active {
    std::int32_t channel;
    float value;
};

// The active channels of a row, ascending.
struct List {
    std::unique_ptr<Active[]> memory;
    Index count;

    Active* begin() const { return memory.get(); }
    Active* end() const { return memory.get() + count; }
};

bool inactive(float value, float threshold) { return std::fabs(value) <= threshold; }

template <class T> List compact(const T* x, Index channels, float threshold) {
    List list{std::unique_ptr<Active[]>(new Active[channels + 1]), 0};
    for (Index k = 0; k < channels; ++k) {  // without a branch that could be predicted wrongly
        float value = widen(x[k]);
        list.memory[list.count] = {std::int32_t(k), value};
        list.count += !inactive(value, threshold);
    }
    return list;
}

// Weights to prefetch during a pass: row by row what lies a little ahead, from the next pass's row
// where this one ends.
struct Ahead {
    const char* here[kPass];
    const char* next[kPass];
    Index bytes;

    template <int C> void fetch(Index offset) const {
        Index ahead = offset + kAhead;
        for (int c = 0; c < C; ++c) {
            __builtin_prefetch(ahead < bytes ? here[c] + ahead : next[c] + (ahead - bytes));
        }
    }
};

// sums[0..outputs) += the C rows of weights times their values, C <= kPass.
template <int C, class W>
void add_rows(const W* const* rows, const float* values, float* sums, Index outputs,
              const Ahead& ahead) {
    constexpr Index step = std::max<Index>(kLanes, 64 / sizeof(W));  // a cache line of weights
    Index n = 0;
    for (; n + step <= outputs; n += step) {
        ahead.fetch<C>(n * sizeof(W));
        for (Index m = n; m < n + step; m += kLanes) {
            Floats sum = load<Floats>(sums + m);
            for (int c = 0; c < C; ++c) sum += values[c] * fill(rows[c] + m);
            store(sums + m, sum);
        }
    }
    for (; n < outputs; ++n) {
        for (int c = 0; c < C; ++c) sums[n] += values[c] * widen(rows[c][n]);
    }
}

// Where one row of weights per input channel lies: outputs contiguous.
template <class W> struct Dense {
    using Weight = W;
    const W* weight;
    Index pitch;    // from a channel to the next
    Index outputs;  // that a channel has

    Index width() const { return outputs; }  // sums that a row of x needs

    template <int C> void pass(const Active* active, const Active* end, float* sums) const {
        const W* rows[C];
        float values[C];
        Ahead ahead;
        ahead.bytes = outputs * Index(sizeof(W));
        for (int c = 0; c < C; ++c) {
            const Active* next = active + C + c;
            rows[c] = weight + active[c].channel * pitch;
            values[c] = active[c].value;
            ahead.here[c] = reinterpret_cast<const char*>(rows[c]);
            // No next row: fetch the last part of this one again, which costs nothing.
            ahead.next[c] = next < end ? reinterpret_cast<const char*>(weight + next->channel * pitch)
                                       : ahead.here[c] + std::max<Index>(ahead.bytes - kAhead, 0);
        }
        add_rows<C>(rows, values, sums, outputs, ahead);
    }
};

// Any strides, slowly: outputs are not contiguous.
template <class W> struct Strided {
    const W* weight;
    Index channel_stride, output_stride, outputs;

    Index width() const { return outputs; }

    template <int C> void pass(const Active* active, const Active*, float* sums) const {
        for (Index n = 0; n < outputs; ++n) {
            for (int c = 0; c < C; ++c) {
                const Active& one = active[c];
                sums[n] += one.value *
                           widen(weight[one.channel * channel_stride + n * output_stride]);
            }
        }
    }
};

// int4 in groups along the outputs of a channel: low nibbles the first half, high ones the second.
template <class S> struct Nibbles {
    static constexpr Index kBlock = kBytes;     // bytes of a block
    static constexpr Index kSums = 2 * kBytes;  // and its outputs

    // The groups of a block's lanes: `first` up to lane `border`, then the one after it.
    struct Groups {
        Index first;
        int border;
    };

    const std::uint8_t* payload;
    Index pitch, half;
    const S* scales;
    Index scale_pitch, group;
    std::vector<Groups> blocks;  // of low and high nibbles by turns; empty: groups too irregular

    Nibbles(const std::uint8_t* payload, Index pitch, Index half, const S* scales,
            Index scale_pitch, Index group)
        : payload(payload), pitch(pitch), half(half), scales(scales), scale_pitch(scale_pitch),
          group(group) {
        bool regular = group % 4 == 0 && half % 4 == 0;
        blocks.reserve(2 * (half / kBlock + 1));
        for (Index from = 0; regular && from < half; from += kBlock) {
            for (Index start : {from, from + half}) {
                Index count = std::min(kBlock, half - from), first = start / group;
                Index border = std::min(kBlock, (first + 1) * group - start);
                regular = regular && (start + count - 1) / group <= first + 1;
                blocks.push_back({first, border < count ? int(border / 4) : kLanes});
            }
        }
        if (!regular) blocks.clear();
    }

    Index width() const { return blocks.empty() ? 2 * half : Index(blocks.size()) * kBytes; }

    // The scale of each lane, times x already.
    static Floats lanes(const float* scaled, Groups groups) {
        Floats scale = spread(scaled[groups.first]);
        if (groups.border == kLanes) return scale;
        Ints lane;
        for (int i = 0; i < kLanes; ++i) lane[i] = i;
        return lane < Ints{} + groups.border ? scale : spread(scaled[groups.first + 1]);
    }

    // The numbers of nibble `which` of each word.
    static Floats numbers(Words words, int which) {
#if defined(__AVX512F__)
        // The first and the last nibble take fewer instructions this way, the others the other way,
        // and the two kinds run side by side.
        if (which % 7 == 0) {
            const __m512 values =
                _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
            words >>= 4 * which;
            return (Floats)_mm512_permutexvar_ps((__m512i)words, values);  // looks at four bits
        }
#endif
        // Inserted into a power of two whose digits at this place count ones: all exact.
        if (which > 4) words >>= 12, which -= 3;
        Words power = Words{} + (std::uint32_t(150 - 4 * which) << 23);
        Words sum = (words & (15u << 4 * which)) | power;
        return (Floats)sum - ((Floats)power + 8.0f);
    }

    template <int C> void pass(const Active* active, const Active* end, float* sums) const {
        Index groups = 2 * half / group;
        static thread_local std::vector<float> scaled;
        scaled.resize(C * groups);
        const std::uint8_t* rows[C];
        const S* later[C];  // the scales of the next pass
        Ahead ahead;
        ahead.bytes = half;
        for (int c = 0; c < C; ++c) {
            const Active* next = active + C + c;
            rows[c] = payload + active[c].channel * pitch;
            const S* scale = scales + active[c].channel * scale_pitch;
            for (Index g = 0; g < groups; ++g) {
                scaled[c * groups + g] = active[c].value * widen(scale[g]);
            }
            ahead.here[c] = reinterpret_cast<const char*>(rows[c]);
            ahead.next[c] = next < end ? reinterpret_cast<const char*>(payload + next->channel * pitch)
                                       : ahead.here[c] + std::max<Index>(half - kAhead, 0);
            later[c] = next < end ? scales + next->channel * scale_pitch : scale;
        }
        if (blocks.empty()) {
            plain<C>(rows, scaled.data(), groups, sums);
        } else {
            blocked<C>(rows, later, scaled.data(), groups, sums, ahead);
        }
    }

    template <int C>
    void blocked(const std::uint8_t* const* rows, const S* const* later, const float* scaled,
                 Index groups, float* sums, const Ahead& ahead) const {
        const Groups* block = blocks.data();
        constexpr Index line = 64 / sizeof(S);
        Index fetched = 0;  // scales of the next pass, while as large a part of the rows is added
        for (Index from = 0; from < half; from += kBlock, sums += kSums, block += 2) {
            ahead.fetch<C>(from);
            if (fetched < groups && 2 * from >= fetched * group) {
                for (int c = 0; c < C; ++c) __builtin_prefetch(later[c] + fetched);
                fetched += line;
            }
            if (from + kBlock <= half && std::min(block[0].border, block[1].border) == kLanes) {
                add_block<C, true>(rows, kBlock, from, scaled, groups, block, sums);
            } else {
                Index count = std::min(half - from, kBlock);
                add_block<C, false>(rows, count, from, scaled, groups, block, sums);
            }
        }
    }

    // One block of C rows: `Whole` if it is full, and each half of its outputs in one group.
    template <int C, bool Whole>
    static void add_block(const std::uint8_t* const* rows, Index count, Index from,
                          const float* scaled, Index groups, const Groups* block, float* sums) {
        const float* first = scaled + block[0].first;
        const float* second = scaled + block[1].first;
        Floats sum[8];
        for (int i = 0; i < 8; ++i) sum[i] = load<Floats>(sums + i * kLanes);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            Words words{};
            Floats low, high;
            if (Whole) {
                words = load<Words>(rows[c] + from);
                low = spread(first[c * groups]);
                high = spread(second[c * groups]);
            } else {
                std::memcpy(&words, rows[c] + from, count);
                low = lanes(scaled + c * groups, block[0]);
                high = lanes(scaled + c * groups, block[1]);
            }
            for (int i = 0; i < 8; ++i) sum[i] += (i % 2 ? high : low) * numbers(words, i);
        }
        for (int i = 0; i < 8; ++i) store(sums + i * kLanes, sum[i]);
    }

    template <int C>
    void plain(const std::uint8_t* const* rows, const float* scaled, Index groups,
               float* sums) const {
        for (Index n = 0; n < 2 * half; ++n) {
            for (int c = 0; c < C; ++c) {
                int byte = rows[c][n < half ? n : n - half];
                int nibble = n < half ? byte & 15 : byte >> 4;
                sums[n] += scaled[c * groups + n / group] * float(nibble - 8);
            }
        }
    }

    // The outputs of a row from its sums.
    void finish(const float* sums, Index outputs, const S* bias, S* result) const {
        if (blocks.empty()) return round(sums, outputs, bias, result);
        for (Index from = 0; from < half; from += kBlock, sums += kSums) {
            float sorted[2][kBlock];
            for (int side = 0; side < 2; ++side) {
                const float* four = sums + side * kLanes;
                for (int i = 0; i < kLanes; ++i) {
                    for (int j = 0; j < 4; ++j) sorted[side][4 * i + j] = four[2 * j * kLanes + i];
                }
            }
            Index stop = std::min(half, from + kBlock);
            for (int side = 0; side < 2; ++side) {
                Index start = from + side * half, count = std::min(stop + side * half, outputs) - start;
                round(sorted[side], count, bias == nullptr ? bias : bias + start, result + start);
            }
        }
    }
};

// sums[row] += weights times the row's active channels, for all rows.  With several rows, channels
// are taken in chunks that stay in the cache, so that each weight comes from memory once.
constexpr Index kChunk = 32;

template <class Weights>
void multiply(const Weights& weights, const List* lists, Index rows, Index channels, float* sums) {
    Index width = weights.width(), chunk = rows == 1 ? channels : kChunk;
    std::vector<const Active*> begin(rows);
    for (Index r = 0; r < rows; ++r) begin[r] = lists[r].begin();
    for (Index stop = chunk; stop < channels + chunk; stop += chunk) {
        for (Index r = 0; r < rows; ++r) {
            const Active *active = begin[r], *last = lists[r].end(), *end = active;
            if (rows == 1) end = last;
            while (end < last && end->channel < stop) ++end;
            float* row = sums + r * width;
            for (; end - active >= kPass; active += kPass) {
                weights.template pass<kPass>(active, end, row);
            }
            if (end - active >= 4) weights.template pass<4>(active, end, row), active += 4;
            if (end - active >= 2) weights.template pass<2>(active, end, row), active += 2;
            if (end - active >= 1) weights.template pass<1>(active, end, row);
            begin[r] = end;
        }
    }
}

template <class T>
std::vector<List> compact_rows(const T* x, Index rows, Index channels, float threshold) {
    std::vector<List> lists(rows);
    for (Index r = 0; r < rows; ++r) lists[r] = compact(x + r * channels, channels, threshold);
    return lists;
}

// Active channels times weight[k * channel_stride + n * output_stride].
template <class W>
Buffer multiply_dense(const std::vector<List>& lists, Index channels, const W* weight,
                      Index channel_stride, Index output_stride, Index outputs) {
    Index rows = lists.size();
    Buffer sums = zeros(rows * outputs);
    if (output_stride == 1) {
        multiply(Dense<W>{weight, channel_stride, outputs}, lists.data(), rows, channels, sums.get());
    } else {
        multiply(Strided<W>{weight, channel_stride, output_stride, outputs}, lists.data(), rows,
                 channels, sums.get());
    }
    return sums;
}

template <class T>
void sparse_linear(const T* x, Index rows, Index channels, const T* weight, Index channel_stride,
                   Index output_stride, Index outputs, float threshold, const T* bias, T* result) {
    std::vector<List> lists = compact_rows(x, rows, channels, threshold);
    Buffer sums = multiply_dense(lists, channels, weight, channel_stride, output_stride, outputs);
    round_rows(sums.get(), rows, outputs, bias, result);
}

template <class T>
void sparse_int8(const T* x, Index rows, Index channels, const std::int8_t* payload, Index pitch,
                 const T* scales, Index outputs, float threshold, const T* bias, T* result) {
    std::vector<List> lists = compact_rows(x, rows, channels, threshold);
    // The scales wait for the end.  2^-7 keeps |x q| from overflowing where |x q scale| does not.
    for (const List& list : lists) {
        for (Active& one : list) one.value *= 0x1p-7f;
    }
    Buffer sums = multiply_dense(lists, channels, payload, pitch, 1, outputs);
    for (Index r = 0; r < rows; ++r) {
        float* row = sums.get() + r * outputs;
        for (Index n = 0; n < outputs; ++n) row[n] = row[n] * widen(scales[n]) * 0x1p7f;
    }
    round_rows(sums.get(), rows, outputs, bias, result);
}

template <class T>
void sparse_int4(const T* x, Index rows, Index channels, const std::uint8_t* payload, Index pitch,
                 Index half, const T* scales, Index scale_pitch, Index group, Index outputs,
                 float threshold, const T* bias, T* result) {
    Nibbles<T> weights{payload, pitch, half, scales, scale_pitch, group};
    std::vector<List> lists = compact_rows(x, rows, channels, threshold);
    Index width = weights.width();
    Buffer sums = zeros(rows * width);
    multiply(weights, lists.data(), rows, channels, sums.get());
    for (Index r = 0; r < rows; ++r) {
        weights.finish(sums.get() + r * width, outputs, bias, result + r * outputs);
    }
}

// Dot products of G rows of weights with a row of x in float32.
constexpr int kDots = 4;

template <int G, class W>
void dots(const W* const* rows, const float* x, Index channels, float* result, const Ahead& ahead) {
    constexpr Index step = std::max<Index>(kLanes, 64 / sizeof(W));  // a cache line of weights
    Floats sums[G]{};
    Index k = 0;
    for (; k + step <= channels; k += step) {
        ahead.fetch<G>(k * sizeof(W));
        for (Index m = k; m < k + step; m += kLanes) {
            Floats values = load<Floats>(x + m);
            for (int g = 0; g < G; ++g) sums[g] += values * fill(rows[g] + m);
        }
    }
    for (int g = 0; g < G; ++g) {
        float total = 0;
        for (int i = 0; i < kLanes; ++i) total += sums[g][i];
        for (Index m = k; m < channels; ++m) total += x[m] * widen(rows[g][m]);
        result[g] = total;
    }
}

template <class W> struct Matrix {
    const W* data;
    Index row_stride, column_stride;
};

// result[i] = row chosen[i] of the matrix . x, for the first kDots of the `left` rows chosen.
template <class W>
void some_dots(const Matrix<W>& matrix, const Index* chosen, Index left, const float* x,
               Index channels, float* result) {
    int many = std::min<Index>(kDots, left);
    const W* rows[kDots];
    Ahead ahead;
    ahead.bytes = channels * Index(sizeof(W));
    for (int g = 0; g < many; ++g) {
        const W* next = matrix.data + chosen[kDots + g < left ? kDots + g : g] * matrix.row_stride;
        rows[g] = matrix.data + chosen[g] * matrix.row_stride;
        ahead.here[g] = reinterpret_cast<const char*>(rows[g]);
        ahead.next[g] = reinterpret_cast<const char*>(next);
    }
    if (matrix.column_stride == 1 && many == kDots) {
        dots<kDots>(rows, x, channels, result, ahead);
    } else {
        for (int g = 0; g < many; ++g) {
            result[g] = 0;
            for (Index k = 0; k < channels; ++k) {
                result[g] += x[k] * widen(rows[g][k * matrix.column_stride]);
            }
        }
    }
}

// result[row][i] = row i of the matrix . x[row].  The weights stay in the cache from row to row.
template <class W>
void all_dots(const Matrix<W>& matrix, Index count, const float* x, Index rows, Index channels,
              float* result) {
    std::vector<Index> all(count);
    for (Index i = 0; i < count; ++i) all[i] = i;
    for (Index i = 0; i < count; i += kDots) {
        for (Index r = 0; r < rows; ++r) {
            some_dots(matrix, all.data() + i, count - i, x + r * channels, channels,
                      result + r * count + i);
        }
    }
}

template <class T> Buffer widen_rows(const T* x, Index count) {
    Buffer result = zeros(count);
    for (Index i = 0; i < count; ++i) result[i] = widen(x[i]);
    return result;
}

template <class W>
void dense_linear(const W* x, Index rows, Index channels, const W* weight, Index row_stride,
                  Index column_stride, Index outputs, const W* bias, W* result) {
    Buffer values = widen_rows(x, rows * channels), sums = zeros(rows * outputs);
    Matrix<W> matrix{weight, row_stride, column_stride};
    all_dots(matrix, outputs, values.get(), rows, channels, sums.get());
    round_rows(sums.get(), rows, outputs, bias, result);
}

// In the order of reference/activation.py.
enum Activation { kSilu, kGeluTanh, kRelu, kRelu2 };

float activate(Index activation, float g) {
    switch (activation) {
        case kSilu: return g / (1.0f + std::exp(-g));
        case kGeluTanh:
            return 0.5f * g * (1.0f + std::tanh(0.7978845608028654f * (g + 0.044715f * g * g * g)));
        case kRelu: return g < 0 ? 0.0f : g;  // NaN stays
        default: return g < 0 ? 0.0f : g * g;
    }
}

// Gates of all neurons, then the up rows and down columns of a row's active ones only.
template <class W>
void sparse_swiglu(const W* x, Index rows, Index channels, Matrix<W> gate, Matrix<W> up,
                   Matrix<W> down, Index neurons, Index outputs, float threshold, Index activation,
                   W* result) {
    Buffer values = widen_rows(x, rows * channels), gates = zeros(rows * neurons);
    all_dots(gate, neurons, values.get(), rows, channels, gates.get());
    std::vector<List> lists(rows);
    std::vector<Index> chosen(neurons);
    Buffer ups = zeros(neurons);
    for (Index r = 0; r < rows; ++r) {
        float* row = gates.get() + r * neurons;
        for (Index i = 0; i < neurons; ++i) row[i] = activate(activation, row[i]);
        lists[r] = compact(row, neurons, threshold);
        const List& list = lists[r];
        for (Index i = 0; i < list.count; ++i) chosen[i] = list.memory[i].channel;
        for (Index i = 0; i < list.count; i += kDots) {
            some_dots(up, chosen.data() + i, list.count - i, values.get() + r * channels, channels,
                      ups.get() + i);
        }
        for (Index i = 0; i < list.count; ++i) list.memory[i].value *= ups[i];
    }
    Buffer sums = multiply_dense(lists, neurons, down.data, down.column_stride, down.row_stride,
                                 outputs);
    round_rows(sums.get(), rows, outputs, static_cast<const W*>(nullptr), result);
}

}  // namespace

#define ENTRIES(T, NAME)                                                                          \
    void sparse_linear_##NAME(const T* x, Index rows, Index channels, const T* weight,            \
                              Index channel_stride, Index output_stride, Index outputs,           \
                              float threshold, const T* bias, T* result) {                        \
        sparse_linear(x, rows, channels, weight, channel_stride, output_stride, outputs,          \
                      threshold, bias, result);                                                   \
    }                                                                                             \
    void sparse_int8_##NAME(const T* x, Index rows, Index channels, const std::int8_t* payload,   \
                            Index pitch, const T* scales, Index outputs, float threshold,         \
                            const T* bias, T* result) {                                           \
        sparse_int8(x, rows, channels, payload, pitch, scales, outputs, threshold, bias, result); \
    }                                                                                             \
    void sparse_int4_##NAME(const T* x, Index rows, Index channels, const std::uint8_t* payload,  \
                            Index pitch, Index half, const T* scales, Index scale_pitch,          \
                            Index group, Index outputs, float threshold, const T* bias,           \
                            T* result) {                                                          \
        sparse_int4(x, rows, channels, payload, pitch, half, scales, scale_pitch, group, outputs, \
                    threshold, bias, result);                                                     \
    }                                                                                             \
    void dense_linear_##NAME(const T* x, Index rows, Index channels, const T* weight,             \
                             Index row_stride, Index column_stride, Index outputs,                \
                             const T* bias, T* result) {                                          \
        dense_linear(x, rows, channels, weight, row_stride, column_stride, outputs, bias,         \
                     result);                                                                     \
    }                                                                                             \
    void sparse_swiglu_##NAME(const T* x, Index rows, Index channels, const T* gate,              \
                              Index gate_row, Index gate_column, const T* up, Index up_row,       \
                              Index up_column, const T* down, Index down_row, Index down_column,  \
                              Index neurons, Index outputs, float threshold, Index activation,      \
                              T* result) {                                                        \
        sparse_swiglu(x, rows, channels, Matrix<T>{gate, gate_row, gate_column},                  \
                      Matrix<T>{up, up_row, up_column}, Matrix<T>{down, down_row, down_column},   \
                      neurons, outputs, threshold, activation, result);                           \
    }

extern "C" {
ENTRIES(float, float32)
ENTRIES(Bfloat16, bfloat16)
ENTRIES(Float16, float16)
}
