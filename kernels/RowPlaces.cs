using System.Runtime.CompilerServices;
using ILGPU;

namespace KernelScope.Kernels;

/// <summary>
/// Where the rows of a call with several sequences belong: a table in device memory, so that a captured graph can be replayed for other positions and other sequences. Six values a row:
/// the row of the matrices, the position, the ring's capacity, the splits of its keys, and where its ring's keys and values begin, in values from the beginning of the views.
/// </summary>
/// <remarks>Rings lie anywhere in device memory, before or behind the views: a start may be negative.</remarks>
internal static class RowPlaces
{
    /// <summary>Values a row.</summary>
    public const int Fields = 6;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Row(ArrayView<long> places, int n) => (int)places[(long)n * Fields];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Position(ArrayView<long> places, int n) => (int)places[((long)n * Fields) + 1];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Capacity(ArrayView<long> places, int n) => (int)places[((long)n * Fields) + 2];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Splits(ArrayView<long> places, int n) => (int)places[((long)n * Fields) + 3];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long Keys(ArrayView<long> places, int n) => places[((long)n * Fields) + 4];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long Values(ArrayView<long> places, int n) => places[((long)n * Fields) + 5];
}
