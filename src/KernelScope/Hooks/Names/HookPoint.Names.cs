using System.Globalization;

namespace KernelScope.Hooks;

/// <content>Names as people write them, and TransformerLens' names.</content>
public readonly partial record struct HookPoint
{
    // TransformerLens' names. Its attn.hook_q and hook_k are before RoPE, hook_rot_q and hook_rot_k after. Its hook_attn_out and hook_mlp_out fire after the post-norm, its attn.hook_out and mlp.hook_out before.
    private static readonly (string Name, Site Site)[] TransformerLensNames =
    [
        ("hook_resid_pre", Site.ResidPre), ("hook_resid_mid", Site.ResidMid), ("hook_resid_post", Site.ResidPost),
        ("hook_out", Site.ResidPost),
        ("ln1.hook_normalized", Site.AttnInUnit), ("attn.hook_q", Site.QPreRope), ("attn.hook_k", Site.KPreRope),
        ("attn.hook_attn_scores", Site.AttnScores), ("attn.hook_pattern", Site.AttnPattern),
        ("attn.hook_rot_q", Site.Q), ("attn.hook_rot_k", Site.K), ("attn.hook_v", Site.V), ("attn.hook_z", Site.Z),
        ("attn.hook_out", Site.AttnOut), ("hook_attn_out", Site.AttnOutPost), ("ln2.hook_normalized", Site.MlpInUnit),
        ("mlp.hook_post", Site.MlpAct), ("mlp.hook_out", Site.MlpOut), ("hook_mlp_out", Site.MlpOutPost),
    ];

    /// <summary>Reads <c>resid_post.20</c>, TransformerLens' <c>blocks.20.hook_resid_post</c>, or <c>hook_embed</c>.</summary>
    /// <exception cref="FormatException">The name is not one of a hook point; the message says what was expected.</exception>
    public static HookPoint Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return TryParse(text, out HookPoint point) ? point : throw new FormatException(Complaint(text));
    }

    /// <summary>As <see cref="Parse"/>, without an exception.</summary>
    public static bool TryParse(string text, out HookPoint point)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text.StartsWith("blocks.", StringComparison.Ordinal))
        {
            int dot = text.IndexOf('.', 7);
            if (dot > 0 && TryLayer(text.AsSpan(7, dot - 7), out int block)
                && Find(TransformerLensNames, text.AsSpan(dot + 1), out Site legacy))
            {
                point = new(legacy, block);
                return true;
            }
        }
        else if (text == "hook_embed")
        {
            point = new(Site.Embed);
            return true;
        }
        else
        {
            int dot = text.LastIndexOf('.');
            ReadOnlySpan<char> name = dot < 0 ? text : text.AsSpan(0, dot);
            int layer = 0;
            if (Find(Names, name, out Site site) && IsPerLayer(site) == dot >= 0 && (dot < 0 || TryLayer(text.AsSpan(dot + 1), out layer)))
            {
                point = new(site, layer);
                return true;
            }
        }

        point = default;
        return false;
    }

    /// <summary>TransformerLens' name, <c>blocks.20.hook_resid_post</c>; the own one where it has none.</summary>
    internal string TransformerLensName
    {
        get
        {
            foreach ((string name, Site site) in TransformerLensNames)
            {
                if (site == Site)
                    return string.Create(CultureInfo.InvariantCulture, $"blocks.{Layer}.{name}");
            }

            return ToString();
        }
    }

    private static bool TryLayer(ReadOnlySpan<char> digits, out int layer) =>
        int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out layer);

    private static bool Find((string Name, Site Site)[] names, ReadOnlySpan<char> name, out Site site)
    {
        foreach ((string known, Site value) in names)
        {
            if (name.SequenceEqual(known))
            {
                site = value;
                return true;
            }
        }

        site = default;
        return false;
    }

    private static string Complaint(string text)
    {
        int dot = text.LastIndexOf('.');
        string name = dot < 0 ? text : text[..dot];
        if (Find(Names, name, out Site site))
        {
            return IsPerLayer(site)
                ? $"'{text}' names no layer: write '{name}.L' with a layer number, e.g. '{name}.3'."
                : $"'{text}': '{name}' belongs to no layer; write '{name}'.";
        }

        string known = string.Join(", ", Names.Select(n => IsPerLayer(n.Site) ? n.Name + ".L" : n.Name));
        return $"'{text}' is not a hook point; there are {known} (and TransformerLens' names, as blocks.3.hook_resid_post).";
    }
}
