using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>Over which positions t a mean of next-token losses goes; the loss at t is that of predicting token t + 1.</summary>
public enum LossMask
{
    /// <summary>The position's own token is not special and its target is not padding.</summary>
    Default,

    /// <summary>The position's own token is not special; a padding target counts (SAELens' mask).</summary>
    Saelens,

    /// <summary>Neither the position's own token nor its target is special.</summary>
    Strict,

    /// <summary>Neither is padding; the predictions made at BOS and EOS count.</summary>
    AllButPad,
}

/// <summary>
/// Token sequences to evaluate on, as a rectangle: shorter ones are padded on the right. Padding never counts, except in SAELens' own numbers, which are defined with it.
/// </summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed class TokenSet
{
    private readonly int[][] _sequences;
    private readonly HashSet<int> _special;

    private TokenSet(int[][] sequences, int bosId, int padId, HashSet<int> special)
    {
        _sequences = sequences;
        BosId = bosId;
        PadId = padId;
        _special = special;
        SpecialIds = [.. special.Order()];
        Length = sequences.Max(s => s.Length);
        TokenCount = sequences.Sum(s => (long)s.Length);
    }

    /// <summary>Number of sequences.</summary>
    public int Count => _sequences.Length;

    /// <summary>Length of the longest sequence, to which the others are padded.</summary>
    public int Length { get; }

    /// <summary>Number of tokens without padding.</summary>
    public long TokenCount { get; }

    /// <summary>The id of BOS, which <see cref="SpliceWhere.KeepBos"/> leaves alone.</summary>
    public int BosId { get; }

    /// <summary>The id of padding.</summary>
    public int PadId { get; }

    /// <summary>Ids that no activation statistic counts, ascending.</summary>
    public IReadOnlyList<int> SpecialIds { get; }

    /// <summary>Checks sequences against a model.</summary>
    /// <param name="sequences">Ids; each normally begins with BOS.</param>
    /// <param name="config">The model's.</param>
    /// <param name="specialIds">Ids that do not count; null: padding, BOS and config.json's EOS. Padding is always among them.</param>
    /// <exception cref="ArgumentException">No sequence, one longer than the context, an id outside the vocabulary, or no position that counts.</exception>
    public static TokenSet Create(IReadOnlyList<int[]> sequences, Gemma2Config config, IReadOnlyCollection<int>? specialIds = null)
    {
        ArgumentNullException.ThrowIfNull(sequences);
        ArgumentNullException.ThrowIfNull(config);
        if (sequences.Count == 0)
            throw new ArgumentException("There is no sequence to evaluate on.");
        var special = new HashSet<int>(specialIds ?? [config.BosId, .. config.TextEndIds]) { config.PadId };
        for (int b = 0; b < sequences.Count; b++)
            Check(sequences[b], b, config);
        if ((uint)config.PadId >= (uint)config.VocabSize && sequences.Any(s => s.Length != sequences[0].Length))
            throw new ArgumentException(
                $"The sequences have different lengths, and the id of padding, {config.PadId}, is outside the vocabulary of "
                    + $"{config.VocabSize} entries.");
        var set = new TokenSet([.. sequences], config.BosId, config.PadId, special);
        if (!set._sequences.Any(s => s.Any(token => !special.Contains(token))))
            throw new ArgumentException(
                $"No position counts: all tokens of the {set.Count} sequences are special ({string.Join(", ", set.SpecialIds)}).");
        return set;
    }

    /// <summary>Sequences that were checked when they were stored, without a model.</summary>
    internal static TokenSet OfStored(int[][] sequences, int padId, IEnumerable<int> specialIds) =>
        new(sequences, -1, padId, [.. specialIds, padId]);

    /// <summary>Sequence <paramref name="b"/> with its padding.</summary>
    public int[] Padded(int b)
    {
        int[] padded = new int[Length];
        _sequences[b].CopyTo(padded, 0);
        padded.AsSpan(_sequences[b].Length).Fill(PadId);
        return padded;
    }

    /// <summary>Sequence <paramref name="b"/> without padding.</summary>
    public ReadOnlySpan<int> Sequence(int b) => _sequences[b];

    /// <summary>Whether a token is left out of activation statistics.</summary>
    public bool IsSpecial(int token) => _special.Contains(token);

    /// <summary>Whether the loss of predicting <paramref name="target"/> at a position that holds <paramref name="own"/> counts.</summary>
    public bool Counts(LossMask mask, int own, int target) => mask switch
    {
        LossMask.Default => !IsSpecial(own) && target != PadId,
        LossMask.Saelens => !IsSpecial(own),
        LossMask.Strict => !IsSpecial(own) && !IsSpecial(target),
        _ => own != PadId && target != PadId,
    };

    /// <summary>The name of a mask in results.</summary>
    internal static string NameOf(LossMask mask) => mask switch
    {
        LossMask.Default => "default",
        LossMask.Saelens => "saelens",
        LossMask.Strict => "strict",
        _ => "all_but_pad",
    };

    private static void Check(int[] sequence, int b, Gemma2Config config)
    {
        if (sequence.Length > config.ContextLength)
            throw new ArgumentException(
                $"Sequence {b} has {sequence.Length} tokens; the model's context holds {config.ContextLength} (max_position_embeddings).");
        for (int t = 0; t < sequence.Length; t++)
        {
            if ((uint)sequence[t] >= (uint)config.VocabSize)
                throw new ArgumentException(
                    $"Sequence {b}, position {t}: the id {sequence[t]} is outside the vocabulary of {config.VocabSize} entries.");
        }
    }
}
