using System.Globalization;

namespace KernelScope.Hooks;

/// <summary>A named place in the forward pass; the words are those of TransformerLens and its successors.</summary>
public enum Site
{
    /// <summary>Scaled embeddings, [n, d_model].</summary>
    Embed,

    /// <summary>The residual stream before layer L, [n, d_model]; for L &gt; 0 the values of <see cref="ResidPost"/> of L − 1.</summary>
    ResidPre,

    /// <summary>Input of attention: the stream after the input norm with its gain, [n, d_model].</summary>
    AttnIn,

    /// <summary>Queries after RoPE, before the scale, [n, heads·d_head].</summary>
    Q,

    /// <summary>Keys after RoPE, [n, kv heads·d_head].</summary>
    K,

    /// <summary>Values, [n, kv heads·d_head].</summary>
    V,

    /// <summary>Head outputs side by side, before W_O, [n, heads·d_head]: the Gemma Scope attention site.</summary>
    Z,

    /// <summary>Raw attention output, before the post-norm, [n, d_model].</summary>
    AttnOut,

    /// <summary>Attention output after the post-norm: what is added to the stream, [n, d_model].</summary>
    AttnOutPost,

    /// <summary>The stream between the sub-layers, [n, d_model].</summary>
    ResidMid,

    /// <summary>The stream after the pre-feed-forward norm without its gain, [n, d_model]: the input of Gemma Scope's transcoders.</summary>
    MlpInUnit,

    /// <summary>Input of the MLP: the same with the gain, [n, d_model].</summary>
    MlpIn,

    /// <summary>gelu(gate)·up, [n, d_mlp].</summary>
    MlpAct,

    /// <summary>Raw MLP output, before the post-norm, [n, d_model].</summary>
    MlpOut,

    /// <summary>MLP output after the post-norm: what is added to the stream, [n, d_model]; the Gemma Scope MLP site.</summary>
    MlpOutPost,

    /// <summary>The residual stream after layer L, [n, d_model]: the Gemma Scope residual site.</summary>
    ResidPost,

    /// <summary>The stream after the final norm, [n, d_model].</summary>
    FinalNorm,

    /// <summary>Logits after the soft-cap, [n, vocabulary].</summary>
    Logits,

    // The sites below are not part of All: they are extra work, and exist for those who ask for them by name.

    /// <summary>The stream after the input norm without its gain, [n, d_model].</summary>
    AttnInUnit,

    /// <summary>Queries before RoPE, [n, heads·d_head]. Edits act.</summary>
    QPreRope,

    /// <summary>Keys before RoPE, [n, kv heads·d_head]. Edits act.</summary>
    KPreRope,

    /// <summary>
    /// Attention scores after the scale, the soft-cap and the mask (masked: −∞), [n, heads·keys] with keys = position + n, the keys so far: head h is columns h·keys to (h + 1)·keys.
    /// Edits act. Computed on the host, in double, only where somebody listens.
    /// </summary>
    AttnScores,

    /// <summary>Attention weights, the softmax of <see cref="AttnScores"/> over the keys, of the same shape. Edits act: z is then computed from what they left.</summary>
    AttnPattern,
}

/// <summary>A <see cref="Hooks.Site"/> of a layer: <c>resid_post.20</c>, <c>z.3</c>, <c>logits</c>.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Site">The site.</param>
/// <param name="Layer">The layer; 0 for sites that do not belong to one.</param>
/// <example>
/// <code>
/// HookPoint point = HookPoint.Parse("blocks.20.hook_resid_post");   // as TransformerLens calls it
/// Console.WriteLine(point == new HookPoint(Site.ResidPost, 20));    // True
/// Console.WriteLine(point);                                         // resid_post.20
/// </code>
/// </example>
public readonly partial record struct HookPoint(Site Site, int Layer = 0)
{
    private static readonly (string Name, Site Site)[] Names =
    [
        ("embed", Site.Embed), ("resid_pre", Site.ResidPre), ("attn_in", Site.AttnIn), ("q", Site.Q), ("k", Site.K), ("v", Site.V),
        ("z", Site.Z),
        ("attn_out", Site.AttnOut), ("attn_out_post", Site.AttnOutPost), ("resid_mid", Site.ResidMid), ("mlp_in_unit", Site.MlpInUnit),
        ("mlp_in", Site.MlpIn),
        ("mlp_act", Site.MlpAct), ("mlp_out", Site.MlpOut), ("mlp_out_post", Site.MlpOutPost), ("resid_post", Site.ResidPost),
        ("final_norm", Site.FinalNorm), ("logits", Site.Logits),
        ("attn_in_unit", Site.AttnInUnit), ("q_pre_rope", Site.QPreRope), ("k_pre_rope", Site.KPreRope), ("attn_scores", Site.AttnScores),
        ("attn_pattern", Site.AttnPattern),
    ];

    private static readonly Site[] FiringOrder =
    [
        Site.Embed, Site.ResidPre, Site.AttnInUnit, Site.AttnIn, Site.QPreRope, Site.KPreRope, Site.Q, Site.K, Site.V, Site.AttnScores,
        Site.AttnPattern, Site.Z, Site.AttnOut, Site.AttnOutPost,
        Site.ResidMid, Site.MlpInUnit, Site.MlpIn, Site.MlpAct, Site.MlpOut, Site.MlpOutPost, Site.ResidPost, Site.FinalNorm, Site.Logits,
    ];

    internal static int SiteCount => Names.Length;

    /// <summary>Whether a site exists once for each layer.</summary>
    public static bool IsPerLayer(Site site) => site is not (Site.Embed or Site.FinalNorm or Site.Logits);

    /// <summary>The project's name of a site, without a layer: <c>resid_post</c>.</summary>
    public static string NameOf(Site site) => Names[(int)site].Name;

    /// <summary>Whether a row at this site holds one value for each head and key, so that it is as wide as the sequence is long.</summary>
    public static bool IsOverKeys(Site site) => site is Site.AttnScores or Site.AttnPattern;

    /// <summary>The hook points that <c>all</c> means, in the order in which they fire. Those that are extra work are not among them: <c>attn_in_unit</c>, <c>q_pre_rope</c>, <c>k_pre_rope</c>, <c>attn_scores</c>, <c>attn_pattern</c>.</summary>
    public static IEnumerable<HookPoint> All(int layerCount)
    {
        yield return new(Site.Embed);
        for (int l = 0; l < layerCount; l++)
        {
            for (Site site = Site.ResidPre; site <= Site.ResidPost; site++)
                yield return new(site, l);
        }

        yield return new(Site.FinalNorm);
        yield return new(Site.Logits);
    }

    /// <summary>Where a point comes in a forward pass, to be compared with another's.</summary>
    internal int Order
    {
        get
        {
            int place = Array.IndexOf(FiringOrder, Site);
            return Site is Site.FinalNorm or Site.Logits ? int.MaxValue - SiteCount + place : (Layer * SiteCount) + place;
        }
    }

    /// <summary>Number of values in a row at this site, given the model's sizes.</summary>
    /// <exception cref="InvalidOperationException">The site's rows are as wide as the sequence is long (<see cref="IsOverKeys"/>).</exception>
    public int Width(int modelDim, int queryDim, int keyDim, int hiddenDim, int vocabSize) => Site switch
    {
        Site.Q or Site.Z or Site.QPreRope => queryDim,
        Site.K or Site.V or Site.KPreRope => keyDim,
        Site.AttnScores or Site.AttnPattern =>
            throw new InvalidOperationException($"{this} has one value for each head and key: no fixed width."),
        Site.MlpAct => hiddenDim,
        Site.Logits => vocabSize,
        _ => modelDim,
    };

    /// <summary>The project's own name, e.g. <c>resid_post.20</c>.</summary>
    public override string ToString()
    {
        string name = NameOf(Site);
        return IsPerLayer(Site) ? string.Create(CultureInfo.InvariantCulture, $"{name}.{Layer}") : name;
    }
}
