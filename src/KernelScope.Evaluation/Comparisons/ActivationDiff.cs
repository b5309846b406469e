using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>Where two arrays part.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct Departure
{
    internal Departure(long position, long element, double a, double b)
    {
        Position = position;
        Element = element;
        A = a;
        B = b;
    }

    /// <summary>Position of the token, from 0.</summary>
    public long Position { get; init; }

    /// <summary>The value in that token's row.</summary>
    public long Element { get; init; }

    /// <summary>What the first file has there.</summary>
    public double A { get; init; }

    /// <summary>The value in the second file.</summary>
    public double B { get; init; }
}

/// <summary>One array of both files, compared.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record ArrayDiff
{
    internal ArrayDiff(TensorInfo a, TensorInfo b, string? note)
    {
        A = a;
        B = b;
        Note = note;
    }

    /// <summary>The array as the first file has it.</summary>
    public TensorInfo A { get; init; }

    /// <summary>The array as the second file has it.</summary>
    public TensorInfo B { get; init; }

    /// <summary>What is odd about the pair: other shapes, other types; null: nothing. Arrays whose values cannot be paired have no numbers.</summary>
    public string? Note { get; init; }

    /// <summary>Whether the values were compared.</summary>
    public bool Compared { get; init; }

    /// <summary>Σ(a − b)² / Σa²; NaN where nothing was compared, infinite where a value is a number on one side only.</summary>
    public double Nmse { get; init; } = double.NaN;

    /// <summary>The largest |a − b|, in the same sense.</summary>
    public double MaxDifference { get; init; } = double.NaN;

    /// <summary>The largest |a|, of which the tolerance is a share.</summary>
    public double Largest { get; init; } = double.NaN;

    /// <summary>The first value that parts, in the order of positions; null: none does.</summary>
    public Departure? First { get; init; }

    /// <summary>Whether the two part: a value does, or they cannot be compared.</summary>
    public bool Parts => First is not null || !Compared;
}

/// <summary>Compares two files of captured activations and names where they part: what somebody asks whose own run disagrees with ours.</summary>
/// <remarks>Arrays pair by hook point, so that <c>blocks.3.hook_resid_post</c> meets <c>resid_post.3</c>; a leading batch dimension of 1 and heads laid out apart are seen through. One pair is in memory at a time. Immutable: any number of threads may read it.</remarks>
/// <example>
/// <code>
/// ActivationDiff diff = ActivationDiff.Of("ours.npz", "theirs.npz");
/// if (diff.FirstParting is { } parting)
///     Console.WriteLine($"{parting.A.Name} parts first, NMSE {parting.Nmse:E1}");
/// </code>
/// </example>
public sealed record ActivationDiff
{
    internal ActivationDiff(IReadOnlyList<ArrayDiff> arrays, IReadOnlyList<string> onlyInA, IReadOnlyList<string> onlyInB)
    {
        Arrays = arrays;
        OnlyInA = onlyInA;
        OnlyInB = onlyInB;
    }

    /// <summary>The arrays of both files: <c>tokens</c>, then hook points in the order in which they fire, then others.</summary>
    public IReadOnlyList<ArrayDiff> Arrays { get; init; }

    /// <summary>Arrays of the first file only.</summary>
    public IReadOnlyList<string> OnlyInA { get; init; }

    /// <summary>Arrays of the second file only.</summary>
    public IReadOnlyList<string> OnlyInB { get; init; }

    /// <summary>Share of an array's largest value that a difference may be.</summary>
    public const double DefaultTolerance = 1e-4;

    /// <summary>The first array that parts; null: none does.</summary>
    public ArrayDiff? FirstParting => Arrays.FirstOrDefault(a => a.Parts);

    /// <summary>Compares two files, each an npz, npy or safetensors.</summary>
    /// <param name="pathA">The reference.</param>
    /// <param name="pathB">What is held against it.</param>
    /// <param name="tolerance">See <see cref="DefaultTolerance"/>.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="cancellationToken">Stops between two arrays.</param>
    /// <exception cref="InvalidDataException">A file is malformed, holds two arrays for one hook point that differ, or is a .npy of which nothing says with what it pairs.</exception>
    public static ActivationDiff Of(string pathA, string pathB, double tolerance = DefaultTolerance, IProgress<double>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(tolerance);
        Dictionary<string, TensorInfo> a = Contents(pathA, cancellationToken, out bool namelessA),
            b = Contents(pathB, cancellationToken, out bool namelessB);
        if (namelessA || namelessB)
            Pair(pathA, a, namelessA, pathB, b, namelessB);
        List<string> keys = [.. a.Keys.Where(b.ContainsKey).OrderBy(Order).ThenBy(k => k, StringComparer.Ordinal)];
        List<ArrayDiff> diffs = [];
        foreach (string key in keys)
        {
            cancellationToken.ThrowIfCancellationRequested();
            diffs.Add(Compare(pathA, a[key], pathB, b[key], tolerance));
            progress?.Report(diffs.Count / (double)keys.Count);
        }

        return new ActivationDiff(diffs, [.. a.Where(e => !b.ContainsKey(e.Key)).Select(e => e.Value.Name)],
            [.. b.Where(e => !a.ContainsKey(e.Key)).Select(e => e.Value.Name)]);
    }

    private static Dictionary<string, TensorInfo> Contents(string path, CancellationToken cancellationToken, out bool nameless)
    {
        using TensorFile file = ArrayFile.Open(path);
        file.VerifyIfSmall(SaeCheckpoint.VerifyOnOpenLimit, cancellationToken);
        nameless = CapturedArrays.IsUnnamed(file);
        return CapturedArrays.Read(file);
    }

    /// <summary>Gives the one array of a .npy, whose name says nothing, the key of the other file's one array.</summary>
    private static void Pair(string pathA, Dictionary<string, TensorInfo> a, bool namelessA, string pathB, Dictionary<string, TensorInfo> b,
        bool namelessB)
    {
        (string path, Dictionary<string, TensorInfo> other) = namelessA ? (pathA, b) : (pathB, a);
        string[] keys = [.. other.Keys.Where(k => k != CapturedArrays.Tokens || (namelessA && namelessB))];
        if (keys.Length != 1)
            throw BadFile.At(
                path, $"it holds one array, and nothing says which of the other file's {keys.Length} it is; name the file by the hook "
                    + "point, as resid_post.3.npy.");
        Dictionary<string, TensorInfo> nameless = namelessA ? a : b;
        TensorInfo info = nameless.Values.Single();
        nameless.Clear();
        nameless.Add(keys[0], info);
    }

    private static ArrayDiff Compare(string pathA, TensorInfo a, string pathB, TensorInfo b, double tolerance)
    {
        string? note = Note(a, b);
        if (Rows(a, b) is not long rows || !IsNumeric(a.DType) || !IsNumeric(b.DType))
            return new ArrayDiff(a, b, note);
        // Opened for this pair alone: what a compressed array expands to goes when its file is closed.
        using TensorFile fileA = ArrayFile.Open(pathA), fileB = ArrayFile.Open(pathB);
        return new PairComparison(fileA[a.Name], fileB[b.Name], rows, tolerance).Run(new ArrayDiff(a, b, note) { Compared = true });
    }

    private static string? Note(TensorInfo a, TensorInfo b)
    {
        List<string> notes = [];
        if (!a.Shape.SequenceEqual(b.Shape))
            notes.Add($"the shapes are {BadFile.Shape(a.Shape)} and {BadFile.Shape(b.Shape)}");
        if (a.DType != b.DType)
            notes.Add($"the types are {a.DType.SafetensorsName()} and {b.DType.SafetensorsName()}");
        return notes.Count == 0 ? null : string.Join("; ", notes);
    }

    /// <summary>The number of positions, if the values of both can be paired: the same number of values and, past leading dimensions of 1, the same first dimension.</summary>
    private static long? Rows(TensorInfo a, TensorInfo b)
    {
        if (a.ElementCount != b.ElementCount)
            return null;
        if (a.Shape.SequenceEqual(b.Shape))
            return a.Shape.Length == 0 ? 1 : a.Shape[0];
        ReadOnlySpan<long> trimmedA = a.Shape.TrimStart(1L), trimmedB = b.Shape.TrimStart(1L);
        if (trimmedA.SequenceEqual(trimmedB))
            return a.Shape.Length == b.Shape.Length || trimmedA.Length == 0 ? 1 : RowsOfShorter(a.Shape, b.Shape);
        return trimmedA.Length > 0 && trimmedB.Length > 0 && trimmedA[0] == trimmedB[0] ? trimmedA[0] : null;
    }

    /// <summary>[1, T, d] and [T, d]: T, which may be 1.</summary>
    private static long RowsOfShorter(ReadOnlySpan<long> a, ReadOnlySpan<long> b) => a.Length < b.Length ? a[0] : b[0];

    private static bool IsNumeric(DType type) => type.IsFloat() || type.IsInteger();

    /// <summary>Tokens first, for where they differ nothing else can agree; then hook points as they fire; then the rest.</summary>
    private static long Order(string key) =>
        HookPoint.TryParse(key, out HookPoint point) ? point.Order : key == CapturedArrays.Tokens ? -2 : long.MaxValue;
}
