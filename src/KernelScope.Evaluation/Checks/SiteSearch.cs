using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>Tries an SAE at the sites where it might belong, in one forward pass over a few hundred tokens.</summary>
/// <remarks>Any number of threads may call it.</remarks>
public static class SiteSearch
{
    /// <summary>Enough tokens for an L0 and an error ratio to two digits.</summary>
    public const int DefaultTokens = 512;

    private const int Layers = 2;

    // Sites that are taken for each other: the stream between sub-layers; branches before and after their post-norm; the normed stream with and without its gain.
    private static readonly Site[][] Confusable =
    [
        [Site.ResidPre, Site.ResidMid, Site.ResidPost], [Site.AttnOut, Site.AttnOutPost], [Site.MlpOut, Site.MlpOutPost],
            [Site.MlpInUnit, Site.MlpIn, Site.AttnIn],
    ];

    /// <summary>The sites of the right width within two layers that are taken for <paramref name="site"/>, and it.</summary>
    public static IReadOnlyList<HookPoint> Neighbours(HookPoint site, Gemma2Config config)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (!HookPoint.IsPerLayer(site.Site))
            return [site];
        Site[] family = Confusable.FirstOrDefault(f => f.Contains(site.Site)) ?? [site.Site];
        var points = new List<HookPoint>();
        for (int l = Math.Max(0, site.Layer - Layers); l <= Math.Min(config.LayerCount - 1, site.Layer + Layers); l++)
        {
            // resid_pre of a layer is resid_post of the one below: it is tried under that name, and by its own at layer 0 only.
            points.AddRange(family.Where(s => s != Site.ResidPre || l == 0 || site.Site == Site.ResidPre).Select(s => new HookPoint(s, l)));
        }

        return points;
    }

    /// <summary>How the SAE does at each neighbouring site, with the texts as they are and with BOS taken off or put before them.</summary>
    /// <param name="model">The model.</param>
    /// <param name="target">The SAE where it is used; of a transcoder the input site is varied, and its reconstruction is held against the output site.</param>
    /// <param name="tokens">Texts; the first <paramref name="most"/> tokens are used.</param>
    /// <param name="most">Most tokens.</param>
    /// <param name="withoutBos">Whether texts without BOS are tried too.</param>
    /// <param name="cancellationToken">Stops between two layers.</param>
    public static IReadOnlyList<SiteFit> Run(Gemma2Model model, SaeTarget target, TokenSet tokens, int most = DefaultTokens,
        bool withoutBos = true, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(tokens);
        HookPoint[] points = [.. Neighbours(target.Site, model.Config)];
        var fits = new List<SiteFit>();
        foreach (bool bos in withoutBos ? (ReadOnlySpan<bool>)[true, false] : [true])
            fits.AddRange(Measure(model, target, points, Texts(tokens, model.Config, bos, most), tokens, cancellationToken));
        return fits;
    }

    /// <summary>How the SAE does where it is used.</summary>
    public static SiteFit Used(Gemma2Model model, SaeTarget target, TokenSet tokens, int most = DefaultTokens,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(tokens);
        bool bos = BeginsWithBos(tokens);
        return Measure(model, target, [target.Site], Texts(tokens, model.Config, bos, most), tokens, cancellationToken)[0];
    }

    /// <summary>Whether the first sequence begins with BOS.</summary>
    public static bool BeginsWithBos(TokenSet tokens)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        return tokens.Sequence(0) is [int first, ..] && first == tokens.BosId;
    }

    private static List<int[]> Texts(TokenSet tokens, Gemma2Config config, bool bos, int most)
    {
        var texts = new List<int[]>();
        for (int b = 0; b < tokens.Count && most > 0; b++)
        {
            int[] text = tokens.Sequence(b).ToArray();
            text = text is [int first, ..] && first == tokens.BosId ? text[1..] : text;
            text = [.. bos ? (int[])[tokens.BosId] : [], .. text.Take(Math.Min(most, config.ContextLength - 1))];
            if (text.All(tokens.IsSpecial))
                continue;
            texts.Add(text);
            most -= text.Length;
        }

        return texts;
    }

    private static List<SiteFit> Measure(Gemma2Model model, SaeTarget target, HookPoint[] points, List<int[]> texts, TokenSet set,
        CancellationToken cancellationToken)
    {
        int longest = texts.Max(t => t.Length);
        using Session session = model.NewSession(longest, longest);
        var meters = new List<SiteFitMeter>();
        try
        {
            foreach (HookPoint point in points)
                meters.Add(new SiteFitMeter(session.Hooks, target, point, set.SpecialIds, set.BosId, int.MaxValue));
            bool whole = points.Append(target.SiteOut).Any(p => p.Site is Site.FinalNorm or Site.Logits);
            int layers = points.Append(target.SiteOut).Max(p => p.Layer) + 1;
            foreach (int[] text in texts)
            {
                session.Reset();
                if (whole)
                    model.Forward(text, session, LogitRows.All, cancellationToken);
                else
                    model.ForwardTo(layers, text, session, cancellationToken);
            }

            return [.. meters.Select(m => m.Fit()!.Value)];
        }
        finally
        {
            foreach (SiteFitMeter meter in meters)
                meter.Dispose();
        }
    }
}
