using KernelScope.Hooks;

namespace KernelScope.Model;

/// <summary>How the rows of a text become one vector.</summary>
public enum Pooling
{
    /// <summary>The mean of the rows that count.</summary>
    Mean,

    /// <summary>The last row that counts.</summary>
    LastToken,
}

/// <summary>Where the rows of a text are read, and how they become one vector.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record EmbeddingOptions
{
    /// <summary>Where the rows are taken; null: <c>final_norm</c>. Not <c>logits</c>, and no site over keys.</summary>
    public HookPoint? Site { get; init; }

    /// <summary>How they become one vector.</summary>
    public Pooling Pooling { get; init; } = Pooling.Mean;

    /// <summary>Whether rows of BOS, EOS and padding count. By default they do not: BOS' activations are far larger than all others and say nothing of the text. They are fed all the same.</summary>
    public bool IncludeSpecialTokens { get; init; }

    /// <summary>Whether the vector is divided by its length, √Σ x², so that a dot product is a cosine.</summary>
    public bool Normalize { get; init; }
}

/// <summary>A text as one vector: the mean, or the last, of the model's activations at a site.</summary>
/// <remarks>Any number of threads may call it.</remarks>
/// <example>
/// <code>
/// float[] vector = TextEmbedding.Embed(session, tokens);   // the mean of final_norm without &lt;bos>
/// </code>
/// </example>
public static class TextEmbedding
{
    /// <summary>Runs a text and pools its rows: mean: (1/n) Σ_t x_t, in double, in the order of the tokens, rounded once; last token: x_t of the last one that counts.</summary>
    /// <param name="session">A session; it is reset, and holds the text afterwards. Its hooks act. For one caller at a time.</param>
    /// <param name="tokens">The text, BOS first.</param>
    /// <param name="options">What the embedding is; null: the mean of <c>final_norm</c> without special tokens.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    /// <returns>[width of the site].</returns>
    /// <exception cref="ArgumentException">The site has no fixed width per token, the text does not fit, or none of its tokens counts.</exception>
    public static float[] Embed(Session session, ReadOnlySpan<int> tokens, EmbeddingOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(session);
        options ??= new EmbeddingOptions();
        HookPoint site = SiteOf(options);
        if (tokens.Length > session.ContextLength)
            throw new ArgumentException($"The text has {tokens.Length} tokens; the context holds {session.ContextLength}.", nameof(tokens));
        session.CheckTokens(tokens, 0);
        session.Reset();
        var pool = new RowPool(options, session.Model.Config);
        using (session.Hooks.Add(site, pool.Take))
        {
            for (int start = 0; start < tokens.Length; start += session.ChunkLength)
                Run(session, site, tokens.Slice(start, Math.Min(session.ChunkLength, tokens.Length - start)), cancellationToken);
        }

        return pool.Result();
    }

    /// <summary>Where the rows are taken.</summary>
    /// <exception cref="ArgumentException">The site has no fixed width per token.</exception>
    internal static HookPoint SiteOf(EmbeddingOptions options)
    {
        HookPoint site = options.Site ?? new HookPoint(Site.FinalNorm);
        return site.Site == Site.Logits || HookPoint.IsOverKeys(site.Site)
            ? throw new ArgumentException($"{site} is not an embedding of a text; take a site such as final_norm or resid_post.3.",
                nameof(options))
            : site;
    }

    // Layers above the site need not run, unless the site is behind them all.
    private static void Run(Session session, HookPoint site, ReadOnlySpan<int> tokens, CancellationToken cancellationToken)
    {
        if (site.Site == Site.FinalNorm)
            session.Model.Forward(tokens, session, LogitRows.None, cancellationToken);
        else
            session.Model.ForwardTo(site.Site == Site.Embed ? 0 : site.Layer + 1, tokens, session, cancellationToken);
    }
}
