namespace KernelScope.Evaluation;

/// <summary>Which arrays an evaluation writes.</summary>
public enum ArrayDetail
{
    /// <summary>Those whose size does not depend on the number of sequences: <c>firing_frequency</c>, <c>xbar</c>, <c>by_position_*</c>.</summary>
    Summary,

    /// <summary>Also what there is by position: ids, codes, losses, divergences, squared errors. About 20 bytes a forward pass and 8 an active feature.</summary>
    Positions,

    /// <summary>Also the activations, reconstructions, and the first sequence's logits. Several times the size of the activations.</summary>
    All,
}

/// <summary>How an evaluation runs.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record EvaluationOptions
{
    /// <summary>Where arrays go (.npz); null: nowhere.</summary>
    public string? ArraysPath { get; init; }

    /// <summary>Which arrays <see cref="ArraysPath"/> gets.</summary>
    public ArrayDetail Arrays { get; init; } = ArrayDetail.All;

    /// <summary>A file that takes what was measured, sequence by sequence, and from which a killed run goes on with the same result, bit for bit; null: none. It belongs to one model, SAEs, tokens and options.</summary>
    public string? ResumePath { get; init; }

    /// <summary>
    /// Whether <c>r_L0</c> and <c>r_L0_summed</c> are measured, which need two backward passes over each sequence, with a layer's activations in memory for the whole of it. An SAE whose output site
    /// has no gradient (see <see cref="Attribution.StreamGradient.Sites"/>; <c>embed</c> has one) goes without them.
    /// </summary>
    public bool Gradients { get; init; } = true;

    /// <summary>Confidence intervals.</summary>
    public Bootstrap Bootstrap { get; init; } = new();

    /// <summary>
    /// Host memory that may keep activations between the two passes over the set (the mean activation must be known before the second): of the sequences that fit, the layers below the site
    /// run once, of the others twice. Results do not depend on it.
    /// </summary>
    public long KeepBytes { get; init; } = 1L << 30;

    /// <summary>Most tokens of one call of the model: longer sequences are fed in chunks, so that activations take the memory of a chunk.</summary>
    public int ChunkLength { get; init; } = 512;

    /// <summary>The spliced passes that are measured; what follows from the others is not defined. Arrays need every one.</summary>
    internal IReadOnlyList<SpliceRun> Splices { get; init; } = SpliceRun.Every;

    /// <summary>Whether <see cref="ResumePath"/> is the caller's own file, begun anew where nothing can go on from it.</summary>
    internal bool OwnsResumeFile { get; init; }

    /// <summary>Bytes that a block of logits takes on the host: 16 an entry, for clean and spliced logits and clean probabilities.</summary>
    internal long LogitBytes { get; init; } = LogitScorer.BlockBytes;
}

/// <summary>How far an evaluation is.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct EvaluationProgress
{
    internal EvaluationProgress(int sequencesDone, int sequences, double tokensPerSecond, TimeSpan? left)
    {
        SequencesDone = sequencesDone;
        Sequences = sequences;
        TokensPerSecond = tokensPerSecond;
        Left = left;
    }

    /// <summary>Sequences whose numbers are complete.</summary>
    public int SequencesDone { get; init; }

    /// <summary>All sequences.</summary>
    public int Sequences { get; init; }

    /// <summary>Tokens evaluated a second, all passes together; 0 until the second pass has begun.</summary>
    public double TokensPerSecond { get; init; }

    /// <summary>Estimated time left; null until there is something to estimate from.</summary>
    public TimeSpan? Left { get; init; }
}
