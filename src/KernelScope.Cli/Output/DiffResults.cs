using System.Text.Json.Serialization;

namespace KernelScope.Cli;

/// <summary>Where two arrays part: the value in the first file and in the second; null where it is not a finite number.</summary>
internal sealed record DepartureRow(string Name, long Position, long Element, double A, double B);

/// <summary>An array of both files. The numbers are null where the values cannot be paired or differ by no finite amount.</summary>
/// <param name="Nmse">Σ(a − b)² / Σa².</param>
/// <param name="MaxDifference">The largest |a − b|.</param>
/// <param name="Largest">The largest |a|, of which the tolerance is a share.</param>
/// <param name="First">The first value that parts.</param>
internal sealed record ArrayDiffRow(string Name, bool Parts, bool Compared, double Nmse, double MaxDifference, double Largest,
    DepartureRow? First)
{
    /// <summary>What is odd: other shapes, other types.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Note { get; init; }
}

/// <summary>Result of <c>diff</c>.</summary>
/// <param name="A">The reference.</param>
/// <param name="B">What is held against it.</param>
/// <param name="Tolerance">Share of an array's largest value.</param>
/// <param name="Parts">Whether the two part anywhere, or an array is in one of them only.</param>
/// <param name="First">Where they part first: the first array, in the order in which hook points fire, and the first position and element in it. Null where no value does.</param>
/// <param name="Arrays">In firing order.</param>
/// <param name="OnlyInA">Arrays that the second lacks.</param>
/// <param name="OnlyInB">Arrays that the first lacks.</param>
internal sealed record DiffResult(string A, string B, double Tolerance, bool Parts, DepartureRow? First,
    IReadOnlyList<ArrayDiffRow> Arrays, IReadOnlyList<string> OnlyInA, IReadOnlyList<string> OnlyInB);
