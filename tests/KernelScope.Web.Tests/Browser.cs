using Deque.AxeCore.Commons;
using Deque.AxeCore.Playwright;
using Microsoft.Playwright;

namespace KernelScope.Web.Tests;

/// <summary>A Chromium of this machine, without a window; tests are skipped where there is none.</summary>
public sealed class Browser : IAsyncLifetime
{
    private static readonly string[] Places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    private IPlaywright? _playwright;
    private IBrowser? _browser;
    private string _missing = "";

    /// <summary>Where screenshots go.</summary>
    public static string Screenshots { get; } = Directory.CreateDirectory(
        Environment.GetEnvironmentVariable("KERNELSCOPE_SCREENSHOTS") ?? Path.Combine(AppContext.BaseDirectory, "screenshots")).FullName;

    public async Task InitializeAsync()
    {
        string? path = Environment.GetEnvironmentVariable("KERNELSCOPE_CHROMIUM") ?? Array.Find(Places, File.Exists);
        if (path is null)
        {
            _missing = "There is no Chromium on this machine (KERNELSCOPE_CHROMIUM names one).";
            return;
        }

        try
        {
            _playwright = await Playwright.CreateAsync();
            _browser = await _playwright.Chromium.LaunchAsync(
                new() { ExecutablePath = path, Args = ["--no-sandbox", "--disable-gpu"], Timeout = 120_000 });
        }
        catch (PlaywrightException e)
        {
            _missing = $"The browser does not start: {e.Message}";
        }
    }

    public async Task DisposeAsync()
    {
        if (_browser is not null)
            await _browser.DisposeAsync();
        _playwright?.Dispose();
    }

    internal Task<Visit> OpenAsync(DemoServer server, string path) => OpenAsync(server.Url, path);

    /// <summary>Opens a file; it may ask for files beside it only.</summary>
    internal Task<Visit> OpenAsync(Uri file) => OpenAsync(new Uri(file, "."), file.ToString());

    private async Task<Visit> OpenAsync(Uri own, string path)
    {
        Skip.If(_browser is null, _missing);
        IBrowserContext context = await _browser!.NewContextAsync(new()
        {
            BaseURL = own.ToString(),
            ViewportSize = new() { Width = 1000, Height = 900 },
        });
        IPage page = await context.NewPageAsync();
        page.SetDefaultTimeout(60_000);
        var visit = new Visit(context, page, own);
        await page.GotoAsync(path);
        return visit;
    }
}

/// <summary>A page, and what it did that no page of ours may do.</summary>
internal sealed class Visit : IAsyncDisposable
{
    private readonly IBrowserContext _context;
    private readonly List<string> _faults = [];

    public Visit(IBrowserContext context, IPage page, Uri own)
    {
        _context = context;
        Page = page;
        page.Console += (_, message) =>
        {
            // axe asks for the style sheets of a page from the disk, which browsers refuse.
            if (message.Type == "error" && !message.Text.StartsWith("Connecting to 'file:", StringComparison.Ordinal))
                _faults.Add($"console: {message.Text}");
        };
        page.PageError += (_, error) => _faults.Add($"error: {error}");
        page.Request += (_, request) =>
        {
            if (!request.Url.StartsWith(own.ToString(), StringComparison.Ordinal)
                && !request.Url.StartsWith("data:", StringComparison.Ordinal))
                _faults.Add($"a request to {request.Url}");
        };
    }

    public IPage Page { get; }

    /// <summary>No finding of impact serious or critical.</summary>
    public async Task RequireAccessibleAsync()
    {
        AxeResult result = await Page.RunAxe(new AxeRunOptions { ResultTypes = [ResultType.Violations] });
        Assert.Empty(result.Violations.Where(v => v.Impact is "serious" or "critical")
            .Select(v => $"{v.Impact} {v.Id}: {v.Nodes[0].Html}"));
    }

    /// <summary>
    /// Nothing is wider than the window at 360, 800 and 1600 pixels, light and dark; and no finding in the narrowest and the widest, which
    /// are of one scheme each, because that is what takes the time. A picture of each is kept.
    /// </summary>
    public async Task RequireFittingAndAccessibleAsync(string picture)
    {
        foreach ((int width, bool dark) in from w in (int[])[360, 800, 1600] from d in (bool[])[false, true] select (w, d))
        {
            await Page.SetViewportSizeAsync(width, 900);
            await Page.EmulateMediaAsync(new() { ColorScheme = dark ? ColorScheme.Dark : ColorScheme.Light });
            await RequireFittingAsync();
            if ((width, dark) is (360, false) or (1600, true))
                await RequireAccessibleAsync();
            string file = Path.Combine(Browser.Screenshots, $"{picture}-{width}{(dark ? "-dark" : "")}.png");
            await Page.ScreenshotAsync(new() { Path = file, FullPage = true });
        }
    }

    /// <summary>Nothing is wider than the window.</summary>
    public async Task RequireFittingAsync() =>
        Assert.True(await Page.EvaluateAsync<bool>("document.documentElement.scrollWidth <= window.innerWidth"),
            "the page is wider than the window");

    public async ValueTask DisposeAsync()
    {
        await _context.DisposeAsync();
        Assert.Empty(_faults);
    }
}
