using KernelScope.Devices;

namespace KernelScope.Evaluation;

/// <summary>All that is measured on one sequence. Results are sums over these in the order of the sequences, whether they were just computed or read from a journal.</summary>
internal sealed class SequenceScores
{
    public SequenceScores(ScoreLayout layout, int saeCount, FloatArray[] arrays)
    {
        Layout = layout;
        Row = new double[layout.Size];
        Codes = [.. Enumerable.Range(0, saeCount).Select(_ => new CodeList())];
        Arrays = arrays;
        Values = [.. arrays.Select(a => new float[a.Count])];
    }

    /// <summary>Names of <see cref="Row"/>.</summary>
    public ScoreLayout Layout { get; }

    /// <summary>Numbers by position.</summary>
    public double[] Row { get; }

    /// <summary>Active features of every position, by SAE.</summary>
    public CodeList[] Codes { get; }

    /// <summary>Activations and logits that are kept, if any; the same for every sequence but the logits, which only the first has.</summary>
    public FloatArray[] Arrays { get; }

    /// <summary>Their values.</summary>
    public float[][] Values { get; }

    /// <summary>A named part of <see cref="Row"/>.</summary>
    public Span<double> this[string name] => Layout.Of(Row, name);

    /// <summary>The values of a kept array; empty if it is not kept.</summary>
    public Span<float> Kept(string name)
    {
        int at = Array.FindIndex(Arrays, a => a.Name == name);
        return at < 0 ? [] : Values[at];
    }
}

/// <summary>A float32 array that is kept for each sequence.</summary>
/// <param name="Name">Its name, with the prefix of <see cref="ScoreLayout"/>.</param>
/// <param name="Rows">Positions.</param>
/// <param name="Columns">Values of a position.</param>
internal sealed record FloatArray(string Name, int Rows, int Columns)
{
    /// <summary>Number of values of a sequence.</summary>
    public int Count => checked(Rows * Columns);
}
