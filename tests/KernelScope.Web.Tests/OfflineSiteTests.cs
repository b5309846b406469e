using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace KernelScope.Web.Tests;

/// <summary>The site that <c>dash --out</c> writes, opened from the disk.</summary>
[Collection(nameof(DemoServer))]
public sealed class OfflineSiteTests(DemoServer server, Browser browser) : IClassFixture<Browser>, IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("kernelscope-web-tests-").FullName;

    [SkippableFact]
    public async Task It_is_searched_sorted_and_read_without_a_server()
    {
        int[] features = [.. Enumerable.Range(0, 120), 320, 991, 1417, 1620, 1738];
        await using Visit visit = await OpenAsync(features);
        IPage page = visit.Page;
        await Expect(page.Locator("#rows tr")).ToHaveCountAsync(50);
        await page.Locator("#more").ClickAsync();
        await Expect(page.Locator("#page")).ToContainTextAsync("page 2 of");
        await page.Locator("#sort").SelectOptionAsync("dense");
        double[] shares = [.. (await page.Locator("#rows td:nth-child(3)").AllInnerTextsAsync())
            .Select(t => double.Parse(t.Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture))];
        Assert.Equal(shares.OrderDescending(), shares);
        await page.Locator("#query").FillAsync("GIRL hero");
        await Expect(page.Locator("#rows tr")).Not.ToHaveCountAsync(50);
        await page.Locator("#rows a", new() { HasTextString = "1738" }).FocusAsync();
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#title")).ToHaveTextAsync("Feature 1738");
        await Expect(page.Locator("#labels")).ToContainTextAsync("girl");
        await Expect(page.Locator("#positive tr")).ToHaveCountAsync(10);
        await Expect(page.Locator("#together tr")).ToHaveCountAsync(10);
        await Expect(page.Locator("#histograms svg")).ToHaveCountAsync(2);
        await Expect(page.Locator(".example").First).ToBeVisibleAsync();
        Assert.Equal(3, await page.Locator(".example").CountAsync());
        await page.Locator("#around a[rel=prev]").ClickAsync();
        await Expect(page.Locator("#title")).ToHaveTextAsync("Feature 1620");
        await page.GoBackAsync();
        await Expect(page.Locator("#title")).ToHaveTextAsync("Feature 1738");
        await page.EvaluateAsync("location.hash = '#1737'");
        await Expect(page.Locator("#status")).ToContainTextAsync("no page of feature 1737");
    }

    [SkippableFact]
    public async Task It_fits_any_width_and_is_accessible()
    {
        await using Visit visit = await OpenAsync([.. Enumerable.Range(0, 64), 1738]);
        await Expect(visit.Page.Locator("#rows tr").First).ToBeVisibleAsync();
        await visit.RequireFittingAndAccessibleAsync("site-list");
        await visit.Page.EvaluateAsync("location.hash = '#1738'");
        await Expect(visit.Page.Locator("#title")).ToHaveTextAsync("Feature 1738");
        await visit.RequireFittingAndAccessibleAsync("site-feature");
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private async Task<Visit> OpenAsync(int[] features)
    {
        string folder = await DashboardFolders.WriteAsync(server, Path.Combine(_root, "pages"), features);
        return await browser.OpenAsync(new Uri(Path.Combine(folder, "index.html")));
    }
}
